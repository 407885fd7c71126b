"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const superscript = (n) => String(n).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);

  const group = (text) => {
    const [whole, rest] = text.split(".");
    const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
    return rest ? grouped + "." + rest : grouped;
  };

  // The same text as number() and spread() in numbers.py.
  const number = (value, digits = 4, keep = false) => {
    if (value === 0) return "0";
    const [mantissa, power] = value.toExponential(digits - 1).split("e");
    const size = Number(power);
    const strip = (text) => (keep || !text.includes(".") ? text : text.replace(/\.?0+$/, ""));
    const short = value.toPrecision(digits);
    let text;
    if (size < -4 || size >= 6) text = strip(mantissa) + "×10" + superscript(size);
    else if (Number.isInteger(value) || short.includes("e")) text = group(String(Number(short)));
    else text = group(strip(short));
    return text.replace("-", "−");
  };
  const spread = (mean, deviation) => {
    const decimals = deviation ? 1 - Number(deviation.toExponential().split("e")[1]) : 10;
    if (decimals < -4 || decimals > 9 || Math.abs(mean) >= 1e6) return number(mean) + " ± " + number(deviation, 2);
    const unit = 10 ** -decimals;
    const rounded = (each) => (decimals < 0 ? String(Math.sign(each) * Math.round(Math.abs(each) / unit) * unit) : each.toFixed(decimals));
    return [mean, deviation].map((each) => group(rounded(each))).join(" ± ").replace(/-/g, "−");
  };
  window.hpcAgentReport = { number, spread };

  const table = byId("table");
  if (table) {
    const data = JSON.parse(byId("table-data").textContent);
    const { columns, rows, page } = data;
    const mean = (cell) => (Array.isArray(cell) ? cell[0] : cell);
    let shown = rows, first = 0, sorted = data.sorted;

    const text = (cell, column) => {
      if (cell === null || cell === "") return "";
      if (column.kind !== "metric") return typeof cell === "number" && !Number.isInteger(cell) ? number(cell, 6) : String(cell);
      return Array.isArray(cell) ? spread(...cell) : number(cell, 4, true);
    };
    const draw = () => {
      const body = document.createElement("tbody");
      for (const row of shown.slice(first, first + page)) {
        const line = body.insertRow();
        columns.forEach((column, at) => {
          const cell = line.insertCell();
          cell.textContent = text(row[at], column);
          if (column.text) cell.className = "text";
        });
      }
      table.tBodies[0].replaceWith(body);
      const last = Math.min(first + page, shown.length);
      byId("rows-told").textContent = shown.length ? `Rows ${first + 1} to ${last} of ${shown.length}` : "No row fits this filter";
      byId("previous").disabled = first === 0;
      byId("next").disabled = last >= shown.length;
      table.tHead.rows[0].querySelectorAll("th").forEach((head, at) => {
        if (sorted && sorted[0] === at) head.setAttribute("aria-sort", sorted[1] > 0 ? "ascending" : "descending");
        else head.removeAttribute("aria-sort");
      });
    };
    const compare = (a, b) => {
      const empty = (v) => v === null || v === "" || v === undefined;
      if (empty(a) || empty(b)) return empty(a) - empty(b);
      if (typeof a === "number" && typeof b === "number") return (a - b) * sorted[1];
      return String(a).localeCompare(String(b), undefined, { numeric: true }) * sorted[1];
    };
    const sort = () => { if (sorted) shown = [...shown].sort((a, b) => compare(mean(a[sorted[0]]), mean(b[sorted[0]]))); };
    const tests = { "<": (c) => c < 0, ">": (c) => c > 0, "<=": (c) => c <= 0, ">=": (c) => c >= 0, "=": (c) => c === 0, "!=": (c) => c !== 0 };
    const condition = (word) => {
      const found = word.match(/^(.+?)(<=|>=|!=|<|>|=)(.+)$/);
      const at = found ? columns.findIndex((column) => column.name === found[1]) : -1;
      if (at < 0) return (row) => row.some((cell, i) => text(cell, columns[i]).toLowerCase().includes(word.toLowerCase()));
      const wanted = found[3], size = Number(wanted);
      return (row) => {
        const cell = mean(row[at]);
        if (cell === null || cell === "") return false;
        const numeric = typeof cell === "number" && !Number.isNaN(size);
        return tests[found[2]](numeric ? cell - size : String(cell) === wanted ? 0 : String(cell) < wanted ? -1 : 1);
      };
    };
    const filter = () => {
      const all = byId("filter").value.split(/\s+/).filter(Boolean).map(condition);
      shown = rows.filter((row) => all.every((fits) => fits(row)));
      first = 0;
      sort();
      draw();
    };
    table.tHead.rows[0].querySelectorAll("th").forEach((head, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => {
        sorted = [at, sorted && sorted[0] === at ? -sorted[1] : 1];
        first = 0;
        sort();
        draw();
      });
      head.replaceChildren(button);
    });
    byId("filter").addEventListener("input", filter);
    byId("previous").addEventListener("click", () => { first = Math.max(0, first - page); draw(); });
    byId("next").addEventListener("click", () => { first += page; draw(); });
    byId("table-controls").hidden = false;
    byId("pages").hidden = "few" in byId("pages").dataset;
    draw();
  }

  const metric = byId("explore-metric");
  if (metric) {
    const across = byId("explore-across"), second = byId("explore-second");
    const key = (other) => `p${metric.value}-${[Number(across.value), Number(other)].sort((a, b) => a - b).join("-")}`;
    const show = (place, name) => {
      const found = byId(name);
      byId(place).replaceChildren(...(found ? [found.content.cloneNode(true)] : []));
    };
    const pair = () => {
      for (const option of second.options) option.disabled = !byId(key(option.value));
      if (second.selectedOptions[0].disabled) {
        const open = [...second.options].find((option) => !option.disabled);
        if (open) second.value = open.value;
      }
      show("explore-pair", key(second.value));
    };
    metric.addEventListener("change", () => { show("explore-each", "e" + metric.value); if (across) pair(); });
    if (across) for (const select of [across, second]) select.addEventListener("change", pair);
    byId("explore-controls").hidden = false;
  }
})();
