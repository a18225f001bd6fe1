"use strict";
// Lists: the box in the heading ticks all rows; the count of ticked ones is kept. Works without.
document.addEventListener("DOMContentLoaded", () => {
  const rows = Array.from(document.querySelectorAll("tr input.action-select"));
  const all = document.getElementById("action-toggle");
  const count = document.querySelector(".ticked-count");
  if (!rows.length || !all) {
    return;
  }
  const tell = () => {
    const ticked = rows.filter((row) => row.checked).length;
    rows.forEach((row) => row.closest("tr").classList.toggle("selected", row.checked));
    all.checked = ticked === rows.length;
    if (count) {
      count.textContent = `${ticked} of ${rows.length} ticked`;
    }
  };
  all.addEventListener("change", () => {
    rows.forEach((row) => { row.checked = all.checked; });
    tell();
  });
  rows.forEach((row) => row.addEventListener("change", tell));
  window.addEventListener("pageshow", tell);
});
