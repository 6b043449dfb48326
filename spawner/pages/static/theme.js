// The hub's own choice of light or dark, on the service's pages: same place in the browser's storage.
// Runs before the page is drawn.
"use strict";

(() => {
  const key = "jupyterhub-bs-theme";
  const system = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null;
    }
  };
  const show = () => {
    const chosen = stored();
    const theme = chosen === "light" || chosen === "dark" ? chosen : system.matches ? "dark" : "light";
    document.documentElement.setAttribute("data-bs-theme", theme);
  };
  show();
  system.addEventListener("change", show);
  addEventListener("storage", (event) => event.key === key && show());
  addEventListener("DOMContentLoaded", () => {
    document.getElementById("enforcer-theme").addEventListener("click", () => {
      const dark = document.documentElement.getAttribute("data-bs-theme") === "dark";
      try {
        localStorage.setItem(key, dark ? "light" : "dark");
      } catch {
        // without storage the choice lasts as long as the page
      }
      document.documentElement.setAttribute("data-bs-theme", dark ? "light" : "dark");
    });
  });
})();
