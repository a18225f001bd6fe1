"use strict";
// The part of a page that has data-refresh (seconds) keeps itself fresh: its content is fetched and
// put in the old one's place, so that scrolling, open tables and the focus stay. While nobody looks,
// nothing is asked; and no more once the part says so by having no data-refresh.
{
  const place = document.querySelector("[data-refresh]");
  const pause = 1000 * Number(place ? place.dataset.refresh : 0);

  const openOnes = () =>
    [...place.querySelectorAll("figure:has(details[open])")].map((figure) => figure.id);

  async function refresh() {
    const inUse = place.contains(document.activeElement) || !document.getSelection().isCollapsed;
    if (document.hidden || inUse || !place.dataset.refresh) {
      return;
    }
    try {
      const answer = await fetch(window.location.href, { redirect: "error" });
      if (!answer.ok) {
        return;
      }
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById(place.id);
      if (!fresh) {
        return;
      }
      const opened = openOnes();
      place.replaceChildren(...fresh.childNodes);
      for (const id of opened) {
        document.getElementById(id)?.querySelector("details")?.setAttribute("open", "");
      }
      if (!fresh.dataset.refresh) {
        delete place.dataset.refresh;
      }
      place.dataset.refreshed = String(Number(place.dataset.refreshed || 0) + 1);
    } catch {
      // The next turn tries again: whoever is signed out stays on what they last saw.
    }
  }

  if (place && pause) {
    window.setInterval(refresh, pause);
    document.addEventListener("visibilitychange", refresh);
  }
}
