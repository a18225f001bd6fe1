// The set-up page: looks for progress every second, and opens the tenant's page when it is ready.
"use strict";

const EVERY_MS = 1000;
const SLOWLY_MS = 5000;
const list = document.getElementById("setup-steps");
const note = document.getElementById("setup-note");

function show(progress) {
  progress.steps.forEach((step, index) => {
    const line = list.children[index];
    if (line) line.dataset.state = step.state;
  });
  if (progress.delayed) {
    note.textContent =
      "This takes a little longer than usual. You need not wait: we send a mail when it is ready.";
  }
}

async function look() {
  let wait = EVERY_MS;
  try {
    const answer = await fetch("/progress", { headers: { Accept: "application/json" } });
    const progress = answer.ok ? await answer.json() : null;
    // When the tenant is ready its own page answers here, which knows no /progress.
    if (progress === null ? answer.status === 404 : progress.status === "ready") {
      location.replace("/");
      return;
    }
    if (progress) {
      show(progress);
      if (progress.delayed) wait = SLOWLY_MS;
    }
  } catch {
    wait = SLOWLY_MS;
  }
  setTimeout(look, wait);
}

setTimeout(look, EVERY_MS);
