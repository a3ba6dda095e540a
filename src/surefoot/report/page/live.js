// The page of runs that are still training: asks for new metrics, and keeps what is zoomed.
async function ask(status) {
  try {
    const answer = await fetch("data.json");
    if (!answer.ok) { status.textContent = await answer.text(); return; }
    const fresh = await answer.json();
    const form = (of) => [of.curves.length, of.x, of.y, ...of.runs.map((run) => Object.keys(run.metrics).join())].join(";");
    if (form(fresh) !== form(data)) { location.reload(); return; }
    Object.assign(data, fresh);
    status.textContent = data.status;
    charts.forEach((update) => update());
  } catch {
    status.textContent = "The server has ended: surefoot watch RUN starts it again.";
  }
}

const status = document.getElementById("status");
async function follow() {
  await ask(status);
  setTimeout(follow, 1000 * data.seconds);
}
if (status) follow();
