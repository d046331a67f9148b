// me.js - who looks at the page, signing in and out.
import { ask, byId, change, dialog, el, field, onSignedOut, say } from "./base.js";

/** What /api/me says. */
export const me = { signed_in: false, name: "", public: false, tokens: false, version: "" };
let changed = () => {};

/** Calls `listener` when somebody signed in or out. */
export function onChange(listener) {
  changed = listener;
}

export async function readMe() {
  Object.assign(me, await ask("/api/me"));
  byId("who").textContent = me.signed_in ? me.name : "read only";
  byId("sign").textContent = me.signed_in ? "Sign out" : "Sign in";
  byId("version").textContent = `Tandem ${me.version}`;
}

/** Resolves to whether somebody is signed in now. */
export async function signIn() {
  const secret = el("input", { name: "secret", type: "password", required: true, autocomplete: "off" });
  const way = (value, text, checked) => el("div", { class: "choice" },
    el("input", { type: "radio", name: "way", value, id: `way-${value}`, checked }), " ", el("label", { for: `way-${value}` }, text));
  const done = await dialog("Sign in as an operator", [
    el("p", {}, me.public ? "Only operators see anything here, and the trail says who changed what."
      : "Everybody who reaches this page may look. What changes something needs an operator, and the trail says who it was."),
    el("fieldset", {}, el("legend", {}, "With"), way("password", "the password of Redis’s user ops (var/secrets/ops)", true),
      way("token", `an API key or token of an operator${me.tokens ? "" : ", to look: the console changes nothing with it"}`, false)),
    field("Password, key or token", secret),
  ], "Sign in", async (form) => {
    await change("/api/sign-in", { way: form.get("way"), secret: form.get("secret").trim() });
    await readMe();
    say(`Signed in: ${me.name}`);
  });
  if (done) changed();
  return me.signed_in;
}

async function signOut() {
  try {
    await change("/api/sign-out", {});
    await readMe();
    say("Signed out");
    changed();
  } catch (error) {
    say(error.message);
  }
}

// A session ends by itself, too.
onSignedOut(async () => {
  if (!me.signed_in) return;
  me.signed_in = false;
  say("The session has ended");
  await readMe().catch(() => {});
  changed();
});

byId("sign").addEventListener("click", () => (me.signed_in ? signOut() : signIn()));
