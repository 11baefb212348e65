// A table for keyboards: j and k or the arrows move between rows, Enter opens one, x or the
// space bar picks it where rows can be picked. On a narrow page each row is a card.
import { isPending } from "./keys.js";
import { cls, html, useRef } from "./lib.js";

const STEPS = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 };

/**
 * `columns` are {name, words, cell(row), class?}; `keyOf(row)` is stable, so that the focus stays
 * with its row while others come and go. `picked` is a Set of keys, `onPick(key)` changes it.
 */
export function Table({ label, columns, rows, keyOf, onOpen, picked, onPick, rowClass }) {
  const body = useRef(null);
  const move = (event, row) => {
    if (event.target.closest("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey || isPending()) return;
    const onRow = event.target === event.currentTarget;
    if (STEPS[event.key]) {
      const all = [...body.current.children];
      const next = all[all.indexOf(event.currentTarget) + STEPS[event.key]];
      next?.focus();
    } else if (event.key === "Enter" && onRow && onOpen) onOpen(row);
    else if ((event.key === "x" || event.key === " ") && onRow && onPick) onPick(keyOf(row));
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const opened = (event, row) => {
    if (onOpen && !event.target.closest("a, button, input, label") && !String(getSelection())) onOpen(row);
  };
  return html`<div class="table-box"><table>
    <caption class="hidden">${label}</caption>
    <thead><tr>
      ${onPick && html`<th class="pick"><span class="hidden">picked</span></th>`}
      ${columns.map((column) => html`<th scope="col" class=${column.class}>${column.words}</th>`)}
    </tr></thead>
    <tbody ref=${body}>
      ${rows.map((row) => {
        const key = keyOf(row);
        const isPicked = picked?.has(key);
        return html`<tr key=${key} tabindex="0" class=${cls(onOpen && "opens", isPicked && "picked", rowClass?.(row))}
          onKeyDown=${(event) => move(event, row)} onClick=${(event) => opened(event, row)}>
          ${onPick && html`<td class="pick"><input type="checkbox" checked=${isPicked} aria-label="pick this row"
            onChange=${() => onPick(key)} /></td>`}
          ${columns.map((column) => html`<td data-label=${column.words} class=${column.class}>${column.cell(row)}</td>`)}
        </tr>`;
      })}
    </tbody>
  </table></div>`;
}
