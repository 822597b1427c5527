// Runs before the page is drawn, so that no light page flashes in a dark room.
"use strict";
(() => {
  const KEY = "glotprompt-theme";
  const device = window.matchMedia("(prefers-color-scheme: dark)");

  function kept() {
    try {
      return localStorage.getItem(KEY) ?? "system";
    } catch { // a browser that keeps nothing
      return "system";
    }
  }

  let wanted = kept();

  function draw() {
    document.documentElement.dataset.theme = wanted === "system" ? (device.matches ? "dark" : "light") : wanted;
  }

  draw();
  device.addEventListener("change", draw);
  document.addEventListener("DOMContentLoaded", () => {
    const select = document.getElementById("theme");
    select.value = wanted;
    select.addEventListener("change", () => {
      wanted = select.value;
      draw();
      try {
        localStorage.setItem(KEY, wanted);
      } catch {
        // It holds until the page is left.
      }
    });
  });
})();
