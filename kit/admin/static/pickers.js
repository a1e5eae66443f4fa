// Pickers, which choose rows of another list by name, and rows of fields that have pickers in them.
{
  const shown = row => {
    const beside = row.beside ?? row.element?.dataset.beside
    return beside ? $("<span>").text(row.text).append(" ", $("<span class=beside>").text(beside)) : row.text
  }

  const choose = (select, row) => {
    const option = new Option(row.text, row.id, true, true)
    if (row.beside) option.dataset.beside = row.beside
    select.append(option)
  }

  const make = async (element, row) => {  // a row with a name that is new
    const body = new FormData()
    body.append("csrf_token", element.form.elements.csrf_token.value)
    body.append("name", row.name)
    const answer = await fetch(row.url, { method: "POST", body })
    if (answer.ok && !answer.redirected) {
      choose($(element), await answer.json())
      return $(element).trigger("change")
    }
    const told = document.createElement("div")
    told.className = "invalid-feedback refused"
    told.role = "alert"
    told.textContent = answer.status == 409 ? await answer.text() : "This did not work. Please load the page again."
    element.classList.add("is-invalid")
    element.parentElement.append(told)
  }

  const pick = element => {
    const select = $(element), isSeveral = element.multiple
    select.select2({
      placeholder: "Choose",
      allowClear: !isSeveral && Boolean(select.data("allowBlank")),
      width: "100%",
      ajax: {
        url: select.data("url"),
        dataType: "json",
        delay: 150,
        data: ({ term = "" }) => ({ name: element.name.split("-").pop(), term }),
        processResults: ({ results }, { term = "" }) => {
          for (const row of results.filter(row => row.url)) {
            row.name = term.trim()
            row.text = `New: "${row.name}"`
          }
          return { results }
        },
      },
      templateResult: shown,
      templateSelection: shown,
    })
    for (const row of select.data("json") ?? []) choose(select, row)
    select.trigger("change")
    select.on("select2:selecting", event => {
      const row = event.params.args.data
      element.classList.remove("is-invalid")
      for (const told of element.parentElement.querySelectorAll(".refused")) told.remove()
      if (!row.url) return
      event.preventDefault()
      select.select2("close")
      make(element, row)
    })
  }

  const PICKERS = "select[data-role=picker]"
  const add = rows => {
    const html = rows.querySelector("template").innerHTML.replaceAll("NEXT", rows.dataset.next++)
    rows.querySelector("[data-add]").insertAdjacentHTML("beforebegin", html)
    const entry = [...rows.querySelectorAll(".entry")].at(-1)
    entry.querySelectorAll(PICKERS).forEach(pick)
    return entry
  }

  document.querySelectorAll(PICKERS).forEach(pick)
  document.addEventListener("click", event => {
    const button = event.target.closest("[data-add], [data-take-away]"), rows = button?.closest(".rows")
    if (!rows) return
    if ("add" in button.dataset) return $(add(rows).querySelector(PICKERS)).select2("open")
    button.closest(".entry").remove()
    if (!rows.querySelector(".entry")) add(rows)
    rows.querySelector("[data-add]").focus()
  })
}
