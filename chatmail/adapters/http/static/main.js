"use strict";

// Nothing here is needed: without it the form is sent as a form and links are copied by hand.

function enableCopying(root) {
  for (const button of root.querySelectorAll("button.copy")) {
    if (!navigator.clipboard) continue; // plain http to another machine: browsers have none
    const field = button.parentElement.querySelector("input");
    const label = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(field.value);
        button.textContent = button.dataset.done;
        setTimeout(() => { button.textContent = label; }, 2000);
      } catch {
        field.select();
      }
    });
  }
  for (const field of root.querySelectorAll(".copyable input")) {
    field.addEventListener("focus", () => field.select());
  }
}

function showAlert(form, text) {
  let alert = form.parentElement.querySelector(".alert");
  if (!alert) {
    alert = document.createElement("p");
    alert.className = "alert";
    alert.setAttribute("role", "alert");
    alert.dir = "auto";
    form.before(alert);
  }
  alert.textContent = text;
}

async function create(form) {
  const answer = await fetch(form.action, {
    method: "POST",
    headers: { Accept: "text/html" },
    body: new URLSearchParams(new FormData(form)),
  });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = answer.ok && page.getElementById("join");
  if (!fresh) {
    const reason = page.querySelector(".alert");
    throw new Error(reason ? reason.textContent : form.dataset.failed);
  }
  document.getElementById("join").replaceWith(fresh);
  enableCopying(fresh);
  enableCreating(fresh);
  fresh.querySelector("h2").focus();
}

function enableCreating(root) {
  for (const form of root.querySelectorAll("form.create")) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = form.querySelector("button");
      const label = button.textContent;
      button.disabled = true;
      if (form.dataset.busy) button.textContent = form.dataset.busy;
      try {
        await create(form);
      } catch (error) {
        const isOurs = error instanceof Error && !(error instanceof TypeError);
        showAlert(form, isOurs ? error.message : form.dataset.failed);
        button.disabled = false;
        button.textContent = label;
      }
    });
  }
}

enableCopying(document);
enableCreating(document);
