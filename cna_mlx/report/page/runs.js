// Filters and order of the runs. Without this script every run is shown, the latest
// first.
const form = document.querySelector("form");
const body = document.querySelector(".runs tbody");
const rows = [...body.rows]; // the latest first
const texts = rows.map((row) => row.textContent.toLowerCase());
const output = form.querySelector("output");
const names = [...form.elements].map((one) => one.name).filter(Boolean);
const value = (name) => form.elements[name].value;
const filters = names.filter((name) => name !== "search" && name !== "order");

const compare = (a, b) => {
  const [one, other] = [a.dataset, b.dataset];
  // an unknown change comes last
  if (value("order") === "fell") return (other.fell || -9) - (one.fell || -9);
  return one[value("order")].localeCompare(other[value("order")]);
};

let shown = "";
const sort = () => {
  if (value("order") === shown) return;
  shown = value("order");
  const sorted = [...rows];
  if (shown === "oldest") sorted.reverse();
  else if (shown) sorted.sort(compare); // a stable sort: equal ones stay latest first
  body.append(...sorted);
};

const apply = () => {
  const words = value("search").trim().toLowerCase().split(/\s+/);
  let count = 0;
  rows.forEach((row, number) => {
    const isWanted =
      filters.every((name) => !value(name) || row.dataset[name] === value(name)) &&
      words.every((word) => texts[number].includes(word));
    row.hidden = !isWanted;
    count += isWanted ? 1 : 0;
  });
  output.textContent = `${count} of ${rows.length} runs`;
  sort();
};

keepFilters(form, apply);
