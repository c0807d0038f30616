// Light or dark: as the system has it, unless somebody says otherwise here.

import { h, icon } from "./dom.js";

const KEY = "durable-streams-theme";

function dark() {
    const chosen = localStorage.getItem(KEY);
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

function apply() {
    document.documentElement.dataset.theme = dark() ? "dark" : "light";
}

export function themeButton() {
    apply();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
    return h("button", {
        type: "button", class: "button quiet square", title: "Light or dark", "aria-label": "Light or dark",
        onclick: () => { localStorage.setItem(KEY, dark() ? "light" : "dark"); apply(); },
    }, icon("theme"));
}
