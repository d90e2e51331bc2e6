"""How Japanese syllable signs are read, in Hepburn's letters, and what some words mean.

Kanji have no fixed reading: `WORDS` holds those of the pieces that pages show.
"""

ROWS = {
    "": "アイウエオ",
    "k": "カキクケコ",
    "s": "サシスセソ",
    "t": "タチツテト",
    "n": "ナニヌネノ",
    "h": "ハヒフヘホ",
    "m": "マミムメモ",
    "r": "ラリルレロ",
    "g": "ガギグゲゴ",
    "z": "ザジズゼゾ",
    "d": "ダヂヅデド",
    "b": "バビブベボ",
    "p": "パピプペポ",
}
SOUNDS = {
    k: row + v for row, ks in ROWS.items() for k, v in zip(ks, "aiueo", strict=True)
}
SOUNDS |= {"シ": "shi", "チ": "chi", "ツ": "tsu", "フ": "fu", "ジ": "ji", "ヂ": "ji"}
SOUNDS |= {"ヅ": "zu", "ヤ": "ya", "ユ": "yu", "ヨ": "yo", "ワ": "wa", "ヲ": "o"}
SOUNDS |= {"ン": "n", "ヴ": "vu"}
SMALL = {"ャ": "ya", "ュ": "yu", "ョ": "yo"} | dict(
    zip("ァィゥェォ", "aiueo", strict=True)
)


def romaji(text: str) -> str | None:
    """Hiragana and katakana in Latin letters; None where another sign stands.

    Long vowels are written twice, ッ doubles the next consonant (tch before ch). The
    particles は and へ are read as they are written, ha and he.
    """
    found, double = "", False
    for sign in text:
        sign = chr(ord(sign) + 96) if "ぁ" <= sign <= "ゖ" else sign
        if sign == "ッ":
            double = True
            continue
        if sign == "ー" and found:
            sound = found[-1]
        elif sign in SMALL and found[-1:] in ("i", "e", "o", "u"):
            glide = SMALL[sign]
            soft = found.endswith(("shi", "chi", "ji"))
            sound, found = (glide[1:] if soft and len(glide) > 1 else glide), found[:-1]
        elif sign in SOUNDS:
            sound = SOUNDS[sign]
        else:
            return None
        if double:
            sound = ("t" if sound.startswith("ch") else sound[:1]) + sound
        found, double = found + sound, False
    return found


# Pieces of the shipped tokenizer: reading and meaning, or the meaning alone.
WORDS = dict(
    line.split(" = ")
    for line in """
。 = full stop
、 = comma
「 = opening quotation mark
」 = closing quotation mark
・ = middle dot
! = exclamation mark
? = question mark
▁ = space
『 = opening title mark
』 = closing title mark
は = wa: topic
が = ga: subject
の = no: of
を = o: object
に = ni: in, to
で = de: at, by
と = to: and, that
も = mo: too
へ = e: to
から = kara: from
や = ya: and
には = niwa: in, topic
では = dewa: at, topic
した = shita: did
する = suru: do
して = shite: doing
た = ta: past
て = te: and
な = na: as adjective
れた = reta: was done
日本 = Nihon: Japan
日本代表 = Nihon daihyō: Japan's team
東京 = Tōkyō
全国 = zenkoku: whole country
海外 = kaigai: abroad
人 = hito: person
年 = nen: year
月 = gatsu: month
日 = hi: day
日に = hi ni: on the day
夏 = natsu: summer
秋 = aki: autumn
冬 = fuyu: winter
春 = haru: spring
映画 = eiga: film
作品 = sakuhin: work
監督 = kantoku: director
家族 = kazoku: family
主人公 = shujinkō: main character
物語 = monogatari: story
人生 = jinsei: life
自分 = jibun: oneself
愛 = ai: love
戦争 = sensō: war
本当 = hontō: truth
過去 = kako: past
未来 = mirai: future
伝説 = densetsu: legend
衝撃 = shōgeki: shock
現実 = genjitsu: reality
最高 = saikō: best
試合 = shiai: match
戦 = sen: match, war
戦い = tatakai: fight
選手 = senshu: player
優勝 = yūshō: victory
勝 = shō: win
敗 = hai: defeat
決勝 = kesshō: final
ゴール = gōru: goal
相手 = aite: opponent
チーム = chīmu: team
大会 = taikai: tournament
画面 = gamen: screen
電池 = denchi: battery
電池パック = denchi pakku: battery pack
本体 = hontai: main body
電波 = denpa: radio waves
消費電力 = shōhi denryoku: power use
スマートフォン = sumātofon: smartphone
スマホ = sumaho: smartphone
バッテリー = batterī: battery
性能 = seinō: performance
端末 = tanmatsu: device
サイズ = saizu: size
容量 = yōryō: capacity
文字 = moji: letters
ディスプレイ = disupurei: display
辞め = yame: quit
始め = hajime: begin
離れ = hanare: leave
合わせ = awase: fit together
まとめ = matome: sum up
過ごし = sugoshi: spend
捨て = sute: throw away
迎え = mukae: receive
続け = tsuzuke: go on
忘れ = wasure: forget
公開 = kōkai: release
公開される = kōkai sareru: be released
公開された = kōkai sareta: was released
開催 = kaisai: holding
開催される = kaisai sareru: be held
行われた = okonawareta: was held
行われる = okonawareru: be held
上映 = jōei: showing
発売 = hatsubai: sale
発売される = hatsubai sareru: be sold
放送 = hōsō: broadcast
登場 = tōjō: appearance
試写会 = shishakai: preview
予告編 = yokokuhen: trailer
舞台 = butai: stage
会見 = kaiken: press conference
主演 = shuen: leading role
劇場 = gekijō: theatre
抽選 = chūsen: lottery
全国ロードショー = zenkoku rōdoshō: nationwide release
人気 = ninki: popular
女優 = joyū: actress
新 = shin: new
大 = dai: great
話題 = wadai: topic
特別 = tokubetsu: special
実写 = jissha: live action
ホラー = horā: horror
ハリウッド = Hariuddo: Hollywood
イベント = ibento: event
クリスマス = kurisumasu: Christmas
世界 = sekai: world
都内 = tonai: in Tokyo
会場 = kaijō: venue
米国 = Beikoku: USA
アメリカ = Amerika: USA
最新 = saishin: newest
プレミア = puremia: premiere
この = kono: this
その = sono: that
そんな = sonna: such
今 = ima: now
今年 = kotoshi: this year
来年 = rainen: next year
昨年 = sakunen: last year
同 = dō: same
しく = shiku: ending of adjectives
女性 = josei: woman
男性 = dansei: man
仕事 = shigoto: work
会社 = kaisha: company
水 = mizu: water
肌 = hada: skin
空気 = kūki: air
語った = katatta: told
充電 = jūden: charge
電源 = dengen: power supply
ケース = kēsu: case
以降 = ikō: from then on
々 = the character before, again
限定 = gentei: limited
発表 = happyō: announcement
もの = mono: thing
これ = kore: this
二人 = futari: two people
僕 = boku: I
人類 = jinrui: mankind
彼ら = karera: they
勝利 = shōri: victory
予定 = yotei: plan
予想 = yosō: expectation
報道 = hōdō: news report
実施 = jisshi: carrying out
中止 = chūshi: calling off
番組 = bangumi: programme
旅行 = ryokō: journey
雨 = ame: rain
乾燥 = kansō: dryness
野球 = yakyū: baseball
国内 = kokunai: inside the country
今週 = konshū: this week
携帯電話 = keitai denwa: mobile phone
製品 = seihin: product
販売 = hanbai: selling
注目 = chūmoku: attention
配信 = haishin: distribution
期待 = kitai: expectation
開始 = kaishi: beginning
紹介 = shōkai: introduction
終了 = shūryō: end
掲載 = keisai: publication
出 = shutsu, de: out
完了 = kanryō: completion
初めて = hajimete: for the first time
全て = subete: all
この映画 = kono eiga: this film
幅 = haba: width
売り上げ = uriage: sales
進め = susume: go on with
決め = kime: decide
模様 = moyō: pattern, signs
特集 = tokushū: feature
披露 = hirō: showing
予告映像 = yokoku eizō: trailer
驚き = odoroki: surprise
""".strip().splitlines()
)


def gloss(piece: str) -> str:
    """A piece, then in brackets what is known of it: 家族 (kazoku: family), ロボ (robo).

    From `WORDS`, else the reading of kana. Without both, and for Latin letters, the
    piece alone. The space that stands before a piece is left out.
    """
    word = piece.lstrip("▁") or piece
    told = WORDS.get(word) or romaji(word)
    return f"{word} ({told})" if told else word
