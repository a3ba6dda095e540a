// Fields of goals: a click, or arrows and Enter, shows the paths to a goal. All paths are there already.
function installGoals(box, field) {
  const goals = [...box.querySelectorAll(".goal")], ways = [...box.querySelectorAll(".way")];
  const ring = box.querySelector(".chosen");
  const choose = (at) => {
    goals.forEach((goal, i) => goal.setAttribute("aria-pressed", String(i === at)));
    ["cx", "cy"].forEach((name) => ring.setAttribute(name, goals[at].getAttribute(name)));
    ways.forEach((way, step) => way.setAttribute("d", field.paths[at][step]));
    box.querySelector(".said").textContent = field.said[at];
  };
  const focus = (at) => {
    goals.forEach((goal, i) => goal.setAttribute("tabindex", i === at ? "0" : "-1"));
    goals[at].focus();
  };
  const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -field.side, ArrowDown: field.side };
  goals.forEach((goal, at) => {
    goal.addEventListener("click", () => { focus(at); choose(at); });
    goal.addEventListener("keydown", (event) => {
      const column = at % field.side, to = at + (moves[event.key] || 0);
      const leaves = (event.key === "ArrowLeft" && column === 0) || (event.key === "ArrowRight" && column === field.side - 1);
      if (event.key === "Enter" || event.key === " ") choose(at);
      else if (!(event.key in moves)) return;
      else if (goals[to] && !leaves) focus(to);
      event.preventDefault();
    });
  });
  box.querySelectorAll("input").forEach((input, step) => input.addEventListener("change", () => {
    ways[step].style.display = input.checked ? "" : "none";
  }));
  choose(0);
}

(data.goals || []).forEach((field, i) => installGoals(document.getElementById("goals-" + i), field));
