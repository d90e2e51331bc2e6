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

// What scrolls can be scrolled by keyboard: code, wide outputs, a figure on a narrow screen.
{
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      const { scrollWidth, clientWidth, scrollHeight, clientHeight } = target;
      if (scrollWidth > clientWidth || scrollHeight > clientHeight) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  const scrolling = "pre, .cell_output .output, .cell_output figure, .pst-scrollable-table-container";
  for (const host of document.querySelectorAll(scrolling)) sizes.observe(host);
}
