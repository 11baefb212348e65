// A page that is one list.
import { cls, html } from "./lib.js";
import { useShortcut } from "./keys.js";
import { usePolling } from "./live.js";
import { Empty, Loading, PageHead, ProblemBox } from "./parts.js";
import { at } from "./router.js";
import { Table } from "./table.js";

/** Rows of a page of a list. */
export const PAGE = 50;

/**
 * Loads a list again and again, by `load({limit, cursor, …filters}, options)`. `query` is the
 * place's: its `cursor` names an older page, which is loaded once.
 */
export function useListing(load, query = {}, filters = {}, period = 5000) {
  const asked = { limit: PAGE, ...filters, cursor: query.cursor };
  const loaded = usePolling((signal) => load(asked, { signal }), [JSON.stringify(asked)], query.cursor ? 0 : period);
  useShortcut("r", "Load again", loaded.reload);
  return loaded;
}

/**
 * The list: `list` is what `useListing` gave, `rowsOf(data)` its rows, `place` and `query` where
 * it is; the rest is the table's. `children` stand between the head and the table.
 */
export function Listing({ title, says, list, rowsOf, place, query = {}, empty, actions, children, ...table }) {
  const { data, problem, loading, reload } = list;
  const rows = data && rowsOf(data);
  return html`<div>
    <${PageHead} title=${title} actions=${html`${actions}<button onClick=${reload}>Load again</button>`}>${says}<//>
    ${children}
    <${ProblemBox} problem=${problem} />
    ${loading && html`<${Loading} />`}
    ${rows?.length === 0 && html`<${Empty}>${empty}<//>`}
    ${rows?.length > 0 && html`<${Table} ...${table} label=${title} rows=${rows} />`}
    ${place && html`<${Older} place=${place} query=${query} next=${data?.next_cursor} />`}
  </div>`;
}

/** Links to the first page and to the one after this. */
export const Older = ({ place, query, next, first = "First page", more = "More", class: name }) => html`<div class=${cls("more actions", name)}>
  ${query.cursor && html`<a class="button" href=${at(...place, { ...query, cursor: "" })}>${first}</a>`}
  ${next && html`<a class="button" href=${at(...place, { ...query, cursor: next })}>${more}</a>`}
</div>`;
