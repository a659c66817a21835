"use strict";
// A picture to enlarge and move: by buttons and keys, double click, Ctrl and wheel, two fingers; dragging moves it.

const zoomMost = 8, zoomStep = 1.5, zoomMove = 0.2;

// Returns the element whose children are laid over each other, all of one size.
function zoomable(parent, name) {
  const frame = add(parent, "div", undefined, "zoom");
  frame.tabIndex = 0;
  frame.setAttribute("role", "group");
  frame.setAttribute("aria-label", `${name}. Plus and minus zoom, arrow keys move, zero shows all of it.`);
  const layers = add(frame, "div", undefined, "layers");
  const tools = add(parent, "div", undefined, "tools small");
  const view = { scale: 1, x: 0, y: 0 }; // of the frame's size: where its upper left corner lies in the picture
  const fingers = new Map();

  const draw = () => {
    layers.style.transform = `translate(${-100 * view.x}%, ${-100 * view.y}%) scale(${view.scale})`;
    frame.classList.toggle("closer", view.scale > 1);
    const text = `${Math.round(100 * view.scale)} %`;
    if (told.textContent !== text) told.textContent = text;
  };
  const move = (right, down) => {
    view.x = Math.min(Math.max(view.x + right, 0), view.scale - 1);
    view.y = Math.min(Math.max(view.y + down, 0), view.scale - 1);
    draw();
  };
  const zoom = (factor, x = 0.5, y = 0.5) => { // what is at (x, y) of the frame stays there
    const before = view.scale;
    view.scale = Math.min(Math.max(before * factor, 1), zoomMost);
    const more = view.scale / before - 1;
    move((view.x + x) * more, (view.y + y) * more);
  };
  const place = (event) => {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  const tool = (text, label, act) => {
    const button = add(tools, "button", text);
    button.type = "button";
    button.setAttribute("aria-label", label);
    button.addEventListener("click", act);
  };

  tool("\u2212", "Zoom out", () => zoom(1 / zoomStep));
  tool("+", "Zoom in", () => zoom(zoomStep));
  tool("All", "Show all of it", () => zoom(0));
  const told = add(tools, "output");
  add(tools, "span", "Drag to move.", "hint");
  draw();

  const keys = {
    "+": () => zoom(zoomStep), "=": () => zoom(zoomStep), "-": () => zoom(1 / zoomStep), 0: () => zoom(0),
    ArrowLeft: () => move(-zoomMove, 0), ArrowRight: () => move(zoomMove, 0),
    ArrowUp: () => move(0, -zoomMove), ArrowDown: () => move(0, zoomMove),
  };
  frame.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(keys, event.key)) return; // the browser's own
    if (event.key.startsWith("Arrow") && view.scale === 1) return; // scrolls the page
    event.preventDefault();
    keys[event.key]();
  });
  frame.addEventListener("dblclick", (event) => (view.scale >= zoomMost ? zoom(0) : zoom(2, ...place(event))));
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // scrolls the page; two fingers on a touchpad come with ctrlKey
    event.preventDefault();
    zoom(Math.exp(-event.deltaY / 200), ...place(event));
  }, { passive: false });
  frame.addEventListener("dragstart", (event) => event.preventDefault());
  frame.addEventListener("touchmove", (event) => { // one finger scrolls the page as long as all is shown
    if (event.touches.length > 1 || view.scale > 1) event.preventDefault();
  }, { passive: false });
  frame.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    frame.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
  });
  frame.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = [...fingers.values()].slice(0, 2);
    fingers.set(event.pointerId, place(event));
    const now = [...fingers.values()].slice(0, 2);
    const middle = (points, axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length;
    const apart = ([a, b]) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (now.length > 1 && apart(before) > 0) zoom(apart(now) / apart(before), middle(before, 0), middle(before, 1));
    move(middle(before, 0) - middle(now, 0), middle(before, 1) - middle(now, 1));
  });
  for (const end of ["pointerup", "pointercancel"]) frame.addEventListener(end, (event) => fingers.delete(event.pointerId));
  return layers;
}
