// What an automatic check can find of what would shut people out; gives a list of sentences, empty when all is well.
() => {
  const problems = [];
  const seen = (element) => element.checkVisibility({ visibilityProperty: true });
  const all = (query) => [...document.querySelectorAll(query)];
  const named = (element) => `<${element.tagName.toLowerCase()} id="${element.id}" class="${element.className}"> ${element.textContent.trim().slice(0, 40)}`;

  // Names
  const nameOf = (element) => [
    element.getAttribute("aria-label"),
    ...(element.getAttribute("aria-labelledby") ?? "").split(" ").map((id) => document.getElementById(id)?.textContent),
    ...[...(element.labels ?? [])].map((label) => label.textContent),
    ["A", "BUTTON", "SUMMARY"].includes(element.tagName) ? element.textContent : "",
  ].filter((name) => name?.trim());
  for (const element of all("input, textarea, select, button, a, summary, progress").filter(seen)) {
    if (nameOf(element).length === 0) problems.push(`no name: ${named(element)}`);
    const box = element.getBoundingClientRect();
    const inText = element.tagName === "A" && element.closest("p");
    if (!inText && !element.matches(".skip, progress, [type=checkbox], [type=radio]") && Math.min(box.width, box.height) < 24) {
      problems.push(`smaller than 24 px: ${named(element)}`);
    }
  }
  for (const image of all("img")) if (!image.hasAttribute("alt")) problems.push(`no alt: ${named(image)}`);

  // Identifiers and what refers to them
  const ids = all("[id]").map(({ id }) => id);
  for (const id of ids.filter((one, place) => ids.indexOf(one) !== place)) problems.push(`id twice: ${id}`);
  for (const attribute of ["aria-labelledby", "aria-describedby", "aria-controls", "aria-activedescendant", "for"]) {
    for (const element of all(`[${attribute}]`)) {
      for (const id of element.getAttribute(attribute).split(" ")) {
        if (!document.getElementById(id)) problems.push(`${attribute} names nothing: ${id}`);
      }
    }
  }

  // Headings
  const levels = all("h1, h2, h3, h4, h5, h6").filter(seen).map((heading) => Number(heading.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1) problems.push("not one h1");
  levels.forEach((level, place) => {
    if (place && level > levels[place - 1] + 1) problems.push(`a heading of level ${level} under one of ${levels[place - 1]}`);
  });

  // Words that a narrow column cuts in two
  for (const element of all("dt, th, button, summary").filter(seen)) {
    if (getComputedStyle(element.closest("thead") ?? element).clipPath !== "none") continue; // for screen readers alone
    const parts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    while (parts.nextNode()) {
      for (const { 0: word, index } of parts.currentNode.data.matchAll(/[^\s-]+/g)) {
        const range = document.createRange();
        range.setStart(parts.currentNode, index);
        range.setEnd(parts.currentNode, index + word.length);
        if (new Set([...range.getClientRects()].map(({ top }) => Math.round(top))).size > 1) problems.push(`cut: ${word} in ${named(element)}`);
      }
    }
  }

  // Contrast (WCAG 2.2, 1.4.3)
  const parse = (colour) => {
    const [red, green, blue, alpha = 1] = colour.match(/[\d.]+/g).map(Number);
    return { rgb: [red, green, blue], alpha };
  };
  const over = (top, under) => top.rgb.map((value, place) => value * top.alpha + under[place] * (1 - top.alpha));
  const groundOf = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) {
      const layer = parse(getComputedStyle(one).backgroundColor);
      layers.push(layer);
      if (layer.alpha === 1) break;
    }
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const luminance = (rgb) => {
    const [red, green, blue] = rgb.map((value) => value / 255).map((value) =>
      (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const contrast = (one, other) => {
    const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let texts = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !seen(element) || element.closest(":disabled, option, script, noscript")) continue;
    const style = getComputedStyle(element);
    const ground = groundOf(element);
    const size = parseFloat(style.fontSize);
    const least = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700) ? 3 : 4.5;
    const found = contrast(over(parse(style.color), ground), ground);
    texts += 1;
    if (found < least) problems.push(`contrast ${found.toFixed(2)} under ${least}: ${named(element)}`);
  }
  if (texts < 20) problems.push(`only ${texts} texts were looked at`);

  // Fields and bars against what is behind them (1.4.11)
  for (const element of all("input, textarea, select").filter(seen)) {
    const edge = parse(getComputedStyle(element).borderTopColor).rgb;
    const least = contrast(edge, groundOf(element.parentElement));
    if (!["checkbox", "radio"].includes(element.type) && least < 3) problems.push(`edge ${least.toFixed(2)} under 3: ${named(element)}`);
  }
  for (const bar of all(".fill").filter(seen)) {
    const found = contrast(groundOf(bar), groundOf(bar.parentElement));
    if (found < 3) problems.push(`bar ${found.toFixed(2)} under 3: ${named(bar.closest("li"))}`);
  }
  return problems;
}
