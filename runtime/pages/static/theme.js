// Before the first paint: the theme that was chosen last; without a choice, the system's.
"use strict";
try {
  const chosen = localStorage.getItem("edgeward.theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch { /* storage is off: the system's theme */ }
