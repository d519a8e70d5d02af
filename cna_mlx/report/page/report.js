// Filters of the samples. Without this script every sample is shown.
const sections = document.querySelectorAll(".samples");
for (const root of sections) {
  const form = root.querySelector("form");
  const prompts = [...root.querySelectorAll(".p")];
  const output = form.querySelector("output");
  const value = (name) => (form.elements[name] ? form.elements[name].value : "");

  // Show an arm next to the baseline; the arm shown before goes back to the others.
  const showNext = (prompt, arm) => {
    const pair = prompt.querySelector(".pair");
    const chosen = prompt.querySelector(`.a[data-arm="${arm}"]`);
    const old = pair.children[1];
    if (!chosen || chosen === old) return;
    const rest = prompt.querySelector(".rest");
    const next = [...rest.children].find((one) => +one.dataset.arm > +old.dataset.arm);
    rest.insertBefore(old, next === chosen ? chosen.nextElementSibling : next || null);
    pair.append(chosen);
  };

  const changed = (before, after, wanted) => {
    const was = before === "REFUSED";
    const is = after === "REFUSED";
    if (wanted === "lost") return was && !is;
    if (wanted === "gained") return !was && is;
    if (wanted === "other") return before !== after;
    return wanted === "" || before === after;
  };

  const matches = (prompt) => {
    const shown = [...prompt.querySelector(".pair").children];
    const first = shown[0].dataset.label;
    const last = shown[shown.length - 1].dataset.label;
    if (value("label") && value("label") !== last) return false;
    if (!changed(first, last, value("change"))) return false;
    for (const name of ["set", "kind", "category"]) {
      if (value(name) && prompt.dataset[name] !== value(name)) return false;
    }
    const words = value("search").trim().toLowerCase();
    if (!words) return true;
    const texts = [prompt.querySelector(".q"), ...shown.map((one) => one.querySelector(".t"))];
    return texts.some((one) => one.textContent.toLowerCase().includes(words));
  };

  const apply = () => {
    let count = 0;
    for (const prompt of prompts) {
      if (value("arm")) showNext(prompt, value("arm"));
      prompt.hidden = !matches(prompt);
      count += prompt.hidden ? 0 : 1;
    }
    output.textContent = `${count} of ${prompts.length} prompts`;
  };

  keepFilters(form, apply);
}
// Say where a table goes on beyond the screen.
const hint = () => {
  for (const box of document.querySelectorAll(".scroll")) {
    box.classList.toggle("wide", box.scrollWidth > box.clientWidth + 1);
  }
};
hint();
window.addEventListener("resize", hint);
if (sections.length && location.hash.includes("=")) sections[0].scrollIntoView();
