// Who is signed in. `useMe()` is what `GET /v1/me` says; `can("decide")` is whether the key's
// role has a right, so that what it may not do is not offered. The API judges in any case.
import { currentKey, get, keepKey, whenUnauthorized } from "./api.js";
import { useEffect, useState } from "./lib.js";

let state = { stage: currentKey() ? "checking" : "out", me: null, message: null };
const listeners = new Set();

function become(next) {
  state = next;
  listeners.forEach((listener) => listener(state));
}

whenUnauthorized(() => {
  keepKey(null);
  become({ stage: "out", me: null, message: "The key is no longer taken. Sign in again; you will be where you were." });
});

/** Checks the key and begins the session; throws the API's problem. */
export async function signIn(key) {
  keepKey(key);
  try {
    become({ stage: "in", me: await get("/v1/me"), message: null });
  } catch (error) {
    keepKey(null);
    become({ stage: "out", me: null, message: null });
    throw error;
  }
}

/** Asks again with the key that this tab kept. */
export async function resume() {
  if (state.stage !== "checking") return;
  try {
    become({ stage: "in", me: await get("/v1/me"), message: null });
  } catch (error) {
    if (error.status !== 401) become({ stage: "away", me: null, message: error.message });
  }
}

/** Tries once more after the server was away. */
export function again() {
  become({ stage: "checking", me: null, message: null });
  resume();
}

export function signOut() {
  keepKey(null);
  become({ stage: "out", me: null, message: "You are signed out." });
}

/** The session: {stage: "checking" | "in" | "out" | "away", me, message}. */
export function useSession() {
  const [seen, setSeen] = useState(state);
  useEffect(() => {
    listeners.add(setSeen);
    setSeen(state);
    return () => listeners.delete(setSeen);
  }, []);
  return seen;
}

/** Who is signed in. */
export const useMe = () => useSession().me;

/** Whether the key's role has this right: read, submit, decide, define, admin. */
export const can = (right) => Boolean(state.me?.rights.includes(right));
