// What every module of the console needs of Preact and htm. Markup is written with `html`
// only: whatever stands in a hole becomes a text node or an attribute's value, so that a
// string from outside is never read as markup.
export {
  h, html, render, Component, createContext, useState, useReducer, useEffect, useLayoutEffect,
  useRef, useMemo, useCallback, useContext, useErrorBoundary,
} from "./vendor/preact-htm.js";

let numbered = 0;

/** An id of its own for a label and what it names. */
export const freshId = (word = "id") => `${word}-${(numbered += 1)}`;

/** Class names: those that are there, in one text. */
export const cls = (...names) => names.filter(Boolean).join(" ");
