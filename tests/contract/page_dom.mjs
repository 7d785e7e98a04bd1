// Runs the status page's own script against a running server, on a document small enough to print.
// usage: node page_dom.mjs PAGE BASE_URL; each line on stdin lets the page refresh once and prints the document as JSON.
import {readFileSync} from "node:fs";
import {createInterface} from "node:readline";
import vm from "node:vm";

const [, , path, base] = process.argv;

class Element {
  constructor(tag) { Object.assign(this, {tag, className: "", hidden: false, attributes: {}, children: [], text: "", parent: null, listeners: {}}); }
  get textContent() { return this.text + this.children.map((child) => child.textContent).join(""); }
  set textContent(text) { this.children = []; this.text = String(text); }
  set innerHTML(_) { throw new Error("the page may not write HTML"); }
  get lastElementChild() { return this.children.at(-1); }
  setAttribute(name, value) { this.attributes[name] = value; }
  getAttribute(name) { return this.attributes[name]; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  remove() { if (this.parent) this.parent.children.splice(this.parent.children.indexOf(this), 1); this.parent = null; }
  insertBefore(child, before) {
    child.moves = (child.moves ?? -1) + 1;
    child.remove();
    this.children.splice(before ? this.children.indexOf(before) : this.children.length, 0, child);
    child.parent = this;
  }
  append(...children) { children.forEach((child) => this.insertBefore(child, null)); }
  toJSON() {
    const {tag, className, hidden, text, children, attributes, moves} = this;
    return {tag, class: className, hidden, text, children, attributes, moves};
  }
}

const page = readFileSync(path, "utf8");
const ids = new Map();
for (const [, tag, id] of page.matchAll(/<(\w+) [^>]*?id="(\w+)"/g)) ids.set(id, new Element(tag));
ids.get("mappings").append(new Element("caption"), new Element("thead"));
const title = new Element("title");
let next = null;
const pending = [];
const context = vm.createContext({
  document: {
    hidden: false,
    getElementById: (id) => ids.get(id) ?? null,
    querySelector: (selector) => (selector === "title" ? title : null),
    createElement: (tag) => new Element(tag),
    addEventListener: () => {},
  },
  fetch: (address, options) => fetch(new URL(address, base), options),
  setTimeout: (callback) => { next = callback; pending.splice(0).forEach((wake) => wake()); },
  AbortSignal,
});
const rested = () => new Promise((wake) => (next ? wake() : pending.push(wake)));
vm.runInContext(page.match(/<script>(.*?)<\/script>/s)[1], context);

for await (const line of createInterface({input: process.stdin})) {
  await rested();
  if (line === "click") ids.get("mappings").children[2].children[0].children[0].children[0].listeners.click();
  else { const callback = next; next = null; callback(); await rested(); }
  console.log(JSON.stringify({title: title.textContent, ids: Object.fromEntries(ids)}));
}
