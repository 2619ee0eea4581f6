// Keeps the list of jobs up to date, and sends the forms without leaving the page.

const rows = new Map(); // job id → its row
const message = document.getElementById("message");
let timer;

function row(job) {
  if (!rows.has(job.id)) {
    const tr = document.createElement("tr");
    tr.role = "row"; // said aloud, because on a phone the rows are no table to CSS
    for (const name of ["task", "state", "progress", "text", "time"]) {
      const cell = tr.insertCell();
      cell.className = name;
      cell.role = "cell";
    }
    tr.querySelector(".state").append(document.createElement("span"));
    tr.querySelector(".progress").append(document.createElement("progress"));
    rows.set(job.id, tr);
  }
  return rows.get(job.id);
}

function show(job) {
  const tr = row(job);
  const bar = tr.querySelector("progress");
  tr.dataset.status = job.status;
  tr.querySelector(".task").textContent = job.task;
  tr.querySelector(".state span").textContent = job.status;
  tr.querySelector(".text").textContent = job.text;
  tr.querySelector(".time").textContent = new Date(job.created).toLocaleTimeString();
  bar.hidden = !job.total;
  bar.max = job.total || 1;
  bar.value = job.done;
  bar.setAttribute("aria-label", `${job.task}: ${job.done} of ${job.total}`);
  return tr;
}

async function update() {
  clearTimeout(timer);
  let busy = false;
  try {
    const found = await (await fetch(document.body.dataset.jobs)).json();
    document.getElementById("jobs").replaceChildren(...found.jobs.map(show));
    document.getElementById("none").hidden = found.jobs.length > 0;
    document.getElementById("all").textContent = found.all;
    document.getElementById("confirmed").textContent = found.confirmed;
    busy = found.jobs.some((job) => job.status === "waiting" || job.status === "running");
    document.body.classList.remove("offline");
  } catch {
    document.body.classList.add("offline"); // the app has ended; look again, it may come back
  }
  clearTimeout(timer);
  timer = setTimeout(update, busy ? 250 : 1000);
}

async function send(event) {
  event.preventDefault();
  const form = event.target;
  try {
    const response = await fetch(form.action, {
      method: "POST",
      body: new FormData(form),
      headers: { Accept: "application/json" },
    });
    const answer = await response.json();
    message.textContent = answer.message;
    if (answer.job) {
      document.getElementById("jobs").prepend(show(answer.job));
      document.getElementById("none").hidden = true;
      form.reset();
    }
  } catch {
    message.textContent = "The app does not answer. Is it still running?";
  }
  clearTimeout(timer);
  timer = setTimeout(update, 250);
}

for (const form of document.forms) form.addEventListener("submit", send);
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : update()));
update();
