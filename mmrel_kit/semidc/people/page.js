// SPDX-License-Identifier: Apache-2.0
// The page shows an item only once its picture has loaded, so nobody decides on a picture unseen.

// Milliseconds without a key or click, since the item appeared, before one counts as a decision.
const QUIET = 250
const KEYS = { a: 'accept', c: 'correct', r: 'reject', s: 'skip', u: 'undo' }
const DONE = { accept: 'Accepted', correct: 'Corrected', reject: 'Rejected', skip: 'Skipped', undo: 'Undone' }
const VOTES = { accept: 'accepted', correct: 'corrected to', reject: 'rejected' }
const ZOOMS = [1, 1.5, 2.5, 4, 6]

const $ = id => document.getElementById(id)
const page = {
  annotator: null, item: null, undo: null, loaded: false, pending: false,
  adjudicate: location.hash === '#disagreements', shownAt: 0, touchedAt: 0, zoom: 0, vocabulary: null,
}

const sleep = ms => new Promise(done => setTimeout(done, ms))
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), b => b.toString(16).padStart(2, '0')).join('')

function setState(state) {
  document.body.dataset.state = state
  for (const button of document.querySelectorAll('[data-act]')) {
    const able = button.dataset.act === 'undo' ? page.undo && !page.pending
      : !page.pending && page.item && (page.loaded || button.dataset.act === 'skip')
    button.setAttribute('aria-disabled', able ? 'false' : 'true')
  }
}

// Announces a text to screen readers, and shows it, or another one, in the status line.
function announce(text, shown = text) {
  $('announce').textContent = text
  $('status').textContent = shown
}

// Sends until the server responds. A decision has an id, so that it counts once even if sent twice.
async function send(path, body) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const reply = await fetch(path, {
        method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
        signal: AbortSignal.timeout(15000),
      })
      if (reply.status === 401) { await signIn(); continue }
      if (reply.status < 500) {
        if (document.body.dataset.state === 'offline') setState('busy')
        return { ok: reply.ok, status: reply.status, body: await reply.json() }
      }
    } catch { /* unreachable: try again */ }
    setState('offline')
    announce('The server is unreachable. Your decision is saved and will be sent again.')
    await Promise.race([sleep(wait), new Promise(done => addEventListener('online', done, { once: true }))])
  }
}

function load(url) {
  return new Promise(done => {
    const picture = new Image()
    picture.id = 'picture'
    picture.onload = () => done(picture)
    picture.onerror = () => done(null)
    picture.src = url
  })
}

// Loads the picture of the next item, then replaces picture and text together.
async function show(data, done = '') {
  page.annotator = data.annotator
  page.undo = data.undo
  page.adjudicate = data.adjudicate
  history.replaceState(null, '', data.adjudicate ? '#disagreements' : location.pathname)
  showProgress(data)
  if (!data.item) return showEmpty(data, done)
  page.loaded = false
  const picture = await load(data.item.picture)
  page.item = data.item
  $('empty').hidden = true
  $('work').hidden = false
  if (picture) {
    picture.alt = `Picture ${data.item.image_id}`
    $('picture').replaceWith(picture)
  } else {
    $('picture').removeAttribute('src')
    $('picture').alt = `${data.item.image_id} cannot be shown. Skip it, or tell the maintainers.`
  }
  setZoom(0)
  showWords(data)
  page.loaded = Boolean(picture)
  page.pending = false
  page.shownAt = performance.now()
  document.body.dataset.item = data.item.id
  setState(picture ? 'ready' : 'broken')
  const words = `${data.item.category}: ${data.item.triplet.join(' ')}`
  if (picture) announce(done ? `${done}. Next, ${words}` : words, done)
  else announce('The picture cannot be shown.')
  if (data.ahead) new Image().src = data.ahead
}

function showWords({ item, votes }) {
  $('category').textContent = item.category
  $('triplet').replaceChildren(...item.triplet.flatMap((word, n) => {
    const part = document.createElement('span')
    part.className = ['subject', 'relation', 'object'][n]
    part.textContent = word
    return n ? [' ', part] : [part]
  }))
  $('question').textContent = item.question
  $('votes').hidden = !votes.length
  $('votes').replaceChildren(...votes.map(vote => {
    const line = document.createElement('li')
    line.textContent = `${vote.count} × ${VOTES[vote.verdict]} ${(vote.triplet || []).join(' ')}`
    return line
  }))
  page.hint = votes.find(vote => vote.triplet)?.triplet || null
}

function showEmpty({ progress, adjudicate }, done) {
  page.item = null
  page.pending = page.loaded = false
  delete document.body.dataset.item
  $('work').hidden = true
  $('empty').hidden = false
  const left = progress.items - progress.settled - progress.disputed
  const rest = [left && `${left} need decisions of other people`, progress.disputed && `people disagree on ${progress.disputed}`]
  $('empty-title').textContent = adjudicate ? 'No disagreement for you to settle' : 'Nothing left for you'
  $('empty-text').textContent = `${progress.settled} of ${progress.items} items are settled`
    + `${rest.some(Boolean) ? '; ' + rest.filter(Boolean).join(', ') : ''}. `
    + (adjudicate ? 'Only people who have not decided on an item can settle it.' : 'Thank you.')
  $('settle').hidden = adjudicate || !progress.disputed
  setState('empty')
  announce(done)
}

function showProgress({ annotator, progress, adjudicate }) {
  $('bar').max = progress.items || 1
  $('bar').value = progress.settled
  $('progress').textContent = `${progress.settled} of ${progress.items} settled · ${progress.mine} by you`
  $('who').textContent = annotator
  $('who').setAttribute('aria-label', `Signed in as ${annotator}. Change`)
  $('mode').hidden = !progress.disputed && !adjudicate
  $('mode').textContent = `Disagreements ${progress.disputed || ''}`
  $('mode').setAttribute('aria-pressed', adjudicate)
}

const savedDecision = {
  get key() { return `semidc-pending-${page.annotator}` },
  put(body) { try { localStorage.setItem(this.key, JSON.stringify(body)) } catch { /* private window */ } },
  get() { try { return JSON.parse(localStorage.getItem(this.key)) } catch { return null } },
  drop() { try { localStorage.removeItem(this.key) } catch { /* private window */ } },
}

async function next() {
  page.pending = true
  setState('busy')
  const { ok, body } = await send('/api/next', { adjudicate: page.adjudicate })
  page.pending = false
  if (ok) await show(body)
}

// Returns whether a key or click may decide: the picture is shown, nothing is pending, and QUIET has passed.
function isReady(act) {
  const now = performance.now(), quiet = now - page.touchedAt >= QUIET
  page.touchedAt = now
  if (page.pending || !quiet) return false
  if (act === 'undo') return Boolean(page.undo)
  return page.item && (page.loaded || act === 'skip') && now - page.shownAt >= QUIET
}

async function act(name) {
  if (!isReady(name)) return
  if (name === 'correct') return openCorrect()
  if (name === 'undo') return post('/api/undo', { id: page.undo }, name)
  await decide(name)
}

async function decide(verdict, triplet = null) {
  const body = { id: newId(), item: page.item.id, verdict, triplet, adjudicate: page.adjudicate }
  body.seconds = Math.round(performance.now() - page.shownAt) / 1000
  savedDecision.put(body)
  await post('/api/decisions', body, verdict)
}

async function post(path, body, name) {
  page.pending = true
  setState('busy')
  const reply = await send(path, body)
  savedDecision.drop()
  if (reply.ok) return show(reply.body, DONE[name])
  page.pending = false
  if (reply.status === 422 && page.item && name === 'correct') {
    setState('ready')
    return openCorrect(body.triplet, describe(reply.body.detail))
  }
  await next()
  announce(describe(reply.body.detail))
}

const describe = detail => detail || 'The server did not accept this decision.'

function openCorrect(triplet, error = '') {
  const form = $('correct').querySelector('form')
  const words = triplet || page.hint || page.item.triplet
  ;['subject', 'relation', 'object'].forEach((name, n) => { form.elements[name].value = words[n] })
  const relations = page.vocabulary?.relations[page.item.category] || []
  $('relations').replaceChildren(...relations.flatMap(({ name, synonyms }) =>
    [new Option('', name), ...synonyms.map(word => new Option(`${name} (${word})`, name))]))
  $('names').replaceChildren(...(page.vocabulary?.names || []).map(name => new Option('', name)))
  $('correct-error').textContent = error
  $('correct').showModal()
  form.elements.relation.select()
}

async function signIn() {
  const form = $('sign-in').querySelector('form')
  if ($('sign-in').open) return
  $('sign-in').showModal()
  for (let error = ''; ;) {
    $('sign-in-error').textContent = error
    await new Promise(done => { form.onsubmit = event => { event.preventDefault(); done() } })
    const body = { name: form.elements.name.value, secret: form.elements.secret.value }
    const { ok, body: reply } = await send('/api/sign-in', body)
    if (ok) { page.annotator = reply.name; break }
    error = describe(reply.detail)
  }
  form.elements.secret.value = ''
  $('sign-in').close()
}

// Magnifies the picture around a point, given as fractions of its width and height.
function setZoom(level, x = .5, y = .5) {
  const stage = $('stage'), picture = $('picture')
  page.zoom = Math.max(0, Math.min(ZOOMS.length - 1, level))
  stage.classList.toggle('zoomed', page.zoom > 0)
  if (!page.zoom) { picture.style.width = ''; return }
  const { naturalWidth: w, naturalHeight: h } = picture
  const fit = Math.min(stage.clientWidth / w, stage.clientHeight / h)
  picture.style.width = `${w * fit * ZOOMS[page.zoom]}px`
  stage.scrollTo(x * stage.scrollWidth - stage.clientWidth / 2, y * stage.scrollHeight - stage.clientHeight / 2)
}

addEventListener('keydown', event => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return
  const key = event.key.toLowerCase()
  if (key === '?') return $('about').showModal()
  if (!$('letters').checked) return
  if (key === 'z') setZoom(page.zoom ? 0 : 2)
  else if (key === '+' || key === '=') setZoom(page.zoom + 1)
  else if (key === '-') setZoom(page.zoom - 1)
  else if (KEYS[key]) { event.repeat ? page.touchedAt = performance.now() : act(KEYS[key]) }
  else return
  event.preventDefault()
})

$('stage').addEventListener('click', event => {
  const box = $('picture').getBoundingClientRect()
  setZoom(page.zoom ? 0 : 2, (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height)
})
for (const button of document.querySelectorAll('[data-act]')) button.onclick = () => act(button.dataset.act)
for (const button of document.querySelectorAll('.close')) button.onclick = () => button.closest('dialog').close()
$('help').onclick = () => $('about').showModal()
$('letters').checked = localStorage.getItem('semidc-letters') !== 'off'
$('letters').onchange = event => localStorage.setItem('semidc-letters', event.target.checked ? 'on' : 'off')
$('sign-in').addEventListener('cancel', event => { if (!page.item || page.pending) event.preventDefault() })
$('who').onclick = async () => { if (!page.pending) { await signIn(); await next() } }
$('again').onclick = () => next()
$('mode').onclick = $('settle').onclick = () => { if (!page.pending) { page.adjudicate = !page.adjudicate; next() } }
$('swap').onclick = () => {
  const { subject, object } = $('correct').querySelector('form').elements
  ;[subject.value, object.value] = [object.value, subject.value]
}
$('correct').querySelector('form').addEventListener('submit', event => {
  event.preventDefault()
  const { subject, relation, object } = event.target.elements
  $('correct').close()
  if (page.item && !page.pending) decide('correct', [subject.value, relation.value, object.value])
})

// Send a decision that was pending when the page was left, before anything is shown.
page.pending = true
const { body: first } = await send('/api/next', { adjudicate: page.adjudicate })
page.annotator = first.annotator
const left = savedDecision.get()
if (left) await post('/api/decisions', left, left.verdict)
else await show(first)
page.vocabulary = await (await fetch('/api/vocabulary')).json()
