"use strict";
// Filters kept in the address: "report.html#change=lost" can be sent to somebody.
const keepFilters = (form, apply) => {
  const names = [...form.elements].map((one) => one.name).filter(Boolean);
  const value = (name) => form.elements[name].value;
  const known = new Map(names.map((name) => [name, value(name)]));

  const read = () => {
    const given = new URLSearchParams(location.hash.slice(1));
    for (const name of names) {
      const wanted = given.get(name) ?? known.get(name);
      const element = form.elements[name];
      element.value = wanted;
      if (element.value !== wanted) element.value = known.get(name); // no such choice
    }
    apply();
  };

  const write = () => {
    const chosen = names.filter((name) => value(name) !== known.get(name));
    const given = new URLSearchParams(chosen.map((name) => [name, value(name)]));
    history.replaceState(null, "", `#${given}`);
    apply();
  };

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const kind of ["input", "change"]) form.addEventListener(kind, write);
  form.addEventListener("reset", () => setTimeout(write));
  window.addEventListener("hashchange", () => {
    if (!location.hash || location.hash.includes("=")) read(); // else it is a section's
  });
  read();
};
