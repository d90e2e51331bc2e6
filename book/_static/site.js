// What a reader works is loaded when it comes near; its still stands until then (pages.py).
{
  const near = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      const script = document.createElement("script");
      script.src = target.dataset.script;
      document.head.append(script);
    }
  }, { rootMargin: "800px" });
  for (const host of document.querySelectorAll("[data-script]")) near.observe(host);
}

// A replay that plays by itself: once, when it comes into view, unless motion is unwanted.
for (const host of document.querySelectorAll(".plays [data-element=replay]")) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) break;
  new IntersectionObserver(([entry], observer) => {
    if (!entry.isIntersecting) return;
    observer.disconnect();
    host.shadowRoot?.querySelector("button").click();
  }, { threshold: 0.6 }).observe(host);
}

// A figure that scrolls on a narrow screen (site.css) can be scrolled by keyboard.
{
  const narrow = matchMedia("(max-width: 576px)");
  const reach = () => {
    for (const figure of document.querySelectorAll(".cell_output figure")) {
      if (narrow.matches) figure.tabIndex = 0;
      else figure.removeAttribute("tabindex");
    }
  };
  narrow.addEventListener("change", reach);
  reach();
}
