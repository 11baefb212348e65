// What is asked for again and again. A tab that nobody sees does not ask.
import { useCallback, useEffect, useRef, useState } from "./lib.js";

/**
 * Calls `load(signal)` now, when `deps` change, and every `period` milliseconds after an answer
 * (0: never again). Gives {data, problem, loading, reload}; `data` stays while it is asked again,
 * and is dropped when `deps` change.
 */
export function usePolling(load, deps, period = 2000) {
  const [state, setState] = useState({ data: null, problem: null, loading: true });
  const latest = useRef(load);
  latest.current = load;
  const asker = useRef(() => {});
  useEffect(() => {
    const aborter = new AbortController();
    let timer = null;
    let asked = 0;
    setState({ data: null, problem: null, loading: true });
    let isGone = false;
    const ask = async () => {
      clearTimeout(timer);
      const mine = (asked += 1);
      const told = (next) => !aborter.signal.aborted && mine === asked && setState(next);
      if (!document.hidden) {
        try {
          const data = await latest.current(aborter.signal);
          told({ data, problem: null, loading: false });
        } catch (problem) {
          // What is not there is not asked for again by itself.
          isGone = problem.status === 404;
          told((before) => ({ data: before.data, problem, loading: false }));
        }
      }
      if (period && !isGone && mine === asked && !aborter.signal.aborted) timer = setTimeout(ask, period);
    };
    asker.current = ask;
    const seen = () => !document.hidden && ask();
    document.addEventListener("visibilitychange", seen);
    ask();
    return () => {
      aborter.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [...deps, period]);
  const reload = useCallback(() => asker.current(), []);
  return { ...state, reload };
}

/** The same, once. */
export const useLoaded = (load, deps) => usePolling(load, deps, 0);

/** A value that follows another after a pause: for filters that are typed. */
export function useSettled(value, pause = 300) {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), pause);
    return () => clearTimeout(timer);
  }, [value, pause]);
  return settled;
}
