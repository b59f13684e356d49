'use strict';
// Draws what the stream says. Texts of objects become text nodes and nothing else; the page's policy
// forbids whatever would read them as HTML.

const seen = {fleet: null, rollout: null, skewMs: 0, isLost: false};
const chosen = new Map(); // by condition: the symbol that is drawn
let filter = '';
let said = null; // the operator's last answer, and what it was about
let stream = null;

const COLOURS = {
  Healthy: 'good', Progressing: 'busy', Held: 'held', Degraded: 'bad', Unreadable: 'held',
  Ok: 'good', Unproven: 'busy', Inconclusive: 'none', NoData: 'held', Error: 'held', Breached: 'bad',
};
const ORDER = ['approve', 'resume', 'retry', 'pause', 'skip', 'promote', 'abort', 'rollback'];
const DANGEROUS = new Set(['abort', 'rollback', 'promote']);
const SVG = 'http://www.w3.org/2000/svg';

// ------------------------------------------------------------------ making nodes

function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

// Makes a tree like another, node by node, so that focus, scrolling and what is open stay.
function morph(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const {name} of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
  }
  for (const {name, value} of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const keyed = new Map([...old.childNodes].filter(key).map((node) => [key(node), node]));
  let at = old.firstChild;
  for (const node of [...fresh.childNodes]) {
    const was = key(node) ? keyed.get(key(node)) : at && !key(at) && at.nodeName === node.nodeName ? at : null;
    if (was && was === at) at = at.nextSibling;
    else old.insertBefore(was || node, at);
    if (was) morph(was, node);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function key(node) {
  return node.dataset ? node.dataset.key : undefined;
}

// ------------------------------------------------------------------ words

function nowMs() {
  return Date.now() + seen.skewMs;
}

// As manifests and status write it: hours are the longest unit, and 48h is not 2d.
function duration(seconds) {
  let left = Math.max(0, Math.round(seconds));
  if (left >= 3600) left -= left % 60;
  return [[3600, 'h'], [60, 'm'], [1, 's']].map(([size, unit]) => {
    const count = Math.floor(left / size);
    left -= count * size;
    return count ? `${count}${unit}` : '';
  }).join('') || '0s';
}

function number(value, unit) {
  if (value === null || value === undefined) return '–';
  const text = Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(4)));
  return unit ? `${text} ${unit}` : text;
}

function span(low, high, unit) {
  if (low === undefined && high === undefined) return '–';
  return [low, high].map((end) => (end === undefined ? '?' : number(end))).join(' to ') + (unit ? ` ${unit}` : '');
}

function clockTime(ms) {
  return new Date(ms).toISOString().slice(11, 19);
}

function when(text) {
  const at = Date.parse(text);
  const day = new Date(at).toISOString().slice(0, 10);
  const today = new Date(nowMs()).toISOString().slice(0, 10);
  return h('time', {datetime: text, title: `${day} ${clockTime(at)} UTC`},
    (day === today ? '' : `${day} `) + clockTime(at));
}

function ago(text) {
  const seconds = (nowMs() - Date.parse(text)) / 1000;
  return `${seconds < 3 * 86400 ? duration(seconds) : `${Math.floor(seconds / 86400)}d`} ago`;
}

function chip(word) {
  return h('span', {class: `chip ${COLOURS[word] || 'none'}`}, word);
}

// ------------------------------------------------------------------ the way of a rollout

function elapsedSeconds(clock) {
  const until = clock.standsSince ? Date.parse(clock.standsSince) : nowMs();
  return (until - Date.parse(clock.startedAt)) / 1000 - clock.stoodSeconds;
}

function standing(steps) {
  const step = steps.find((one) => one.pace === 'now' || one.pace === 'failed');
  if (!step) return steps.length && steps.every((one) => one.pace === 'done') ? 'done' : '';
  if (step.pace === 'failed') return `taken back in ${step.name}`;
  if (step.clock) {
    const left = step.takesSeconds - elapsedSeconds(step.clock);
    if (step.clock.standsSince) return `${step.name}, its clock stands still`;
    return left > 0 ? `${step.name}, ${duration(left)} left` : `${step.name}, observed in full`;
  }
  return step.name + (step.done ? `, ${step.done} filled` : '');
}

function drawSteps(steps) {
  return h('ol', {class: 'steps', 'aria-label': 'the steps of the rollout'}, steps.map((step) => {
    const parts = [h('b', {}, step.name)];
    const takes = step.takesSeconds === undefined ? '' : duration(step.takesSeconds);
    if (step.clock && step.takesSeconds > 0) {
      const elapsed = Math.min(elapsedSeconds(step.clock), step.takesSeconds);
      const left = step.takesSeconds - elapsed;
      parts.push(
        h('progress', {max: step.takesSeconds, value: elapsed.toFixed(0), 'aria-label': `${step.name} observed`}),
        `${duration(elapsed)} of ${takes} observed · `,
        step.clock.standsSince ? 'its clock stands still' : left > 0 ? `${duration(left)} left` : 'waits for its end',
      );
    } else if (step.done) {
      parts.push(h('progress', {max: 100, value: parseFloat(step.done), 'aria-label': 'windows filled'}),
        `${step.done} of the calibration windows filled`);
    } else if (takes && step.pace !== 'failed') {
      parts.push(takes);
    }
    if (step.pace === 'failed') parts.push('taken back here');
    if (step.notes.length) parts.push(h('div', {}, step.notes.join(', ')));
    const stands = step.clock && step.clock.standsSince ? ' stands' : '';
    return h('li', {class: step.pace + stands, 'aria-current': step.pace === 'now' ? 'step' : null}, parts);
  }));
}

// The least time until the promotion, if all goes well.
function promotionLeft(steps) {
  const now = steps.findIndex((one) => one.pace === 'now');
  if (now < 0 || !steps[now].clock || steps[now].clock.standsSince) return null;
  const promotion = steps.findIndex((one) => one.name === 'promotion' && one.takesSeconds === undefined);
  if (now >= promotion) return null;
  const later = steps.slice(now + 1, promotion).reduce((sum, one) => sum + (one.takesSeconds || 0), 0);
  return Math.max(0, steps[now].takesSeconds - elapsedSeconds(steps[now].clock)) + later;
}

// ------------------------------------------------------------------ the fleet

function drawFleet(fleet) {
  if (!fleet.isListed) return [h('p', {class: 'quiet'}, fleet.trouble || 'Asking the cluster …')];
  if (!fleet.rows.length) {
    return [h('h1', {}, 'No rollouts'), h('p', {}, 'There is no SignalCanary here. Apply one, or start the dashboard with -n NAMESPACE or -A.')];
  }
  const counts = new Map();
  for (const row of fleet.rows) counts.set(row.health, (counts.get(row.health) || 0) + 1);
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
  const shown = fleet.rows.filter((row) => {
    const text = [row.namespace, row.name, row.health, row.phase, row.canary, row.stable].join(' ').toLowerCase();
    return words.every((word) => text.includes(word));
  });
  return [
    h('h1', {}, fleet.rows.length === 1 ? '1 rollout' : `${fleet.rows.length} rollouts`),
    h('div', {class: 'counts'},
      [...counts].map(([health, count]) => h('span', {}, `${count} `, chip(health))),
      fleet.rows.length > 6 ? h('input', {id: 'filter', type: 'search', placeholder: 'name, health, version …', 'aria-label': 'show only rollouts with these words'}) : null),
    h('ul', {class: 'fleet'}, shown.map(drawRow)),
    shown.length ? null : h('p', {class: 'quiet'}, 'None has these words.'),
  ];
}

// What runs, and what it runs beside.
function versions(row) {
  const serves = row.stable ? `${row.stable} serves` : 'nothing serves';
  if (row.restoring) return [`${row.restoring} is made stable again`, serves];
  if (row.canary) return [row.canary, row.stable ? `beside ${row.stable}` : 'nothing serves beside it'];
  return row.rejected ? [serves, `${row.rejected} was taken back`] : [row.stable ? serves : '–'];
}

function drawRow(row) {
  const isQuiet = row.health === 'Healthy';
  return h('li', {'data-key': `${row.namespace}/${row.name}`},
    h('div', {}, h('a', {href: `#/${encodeURIComponent(row.namespace)}/${encodeURIComponent(row.name)}`}, row.name),
      h('div', {class: 'quiet small'}, row.namespace)),
    h('div', {}, chip(row.health)),
    h('div', {class: 'way-cell small'},
      h('div', {class: 'way', 'aria-hidden': 'true'}, row.steps.map((step) => h('span', {class: step.pace}))),
      h('span', {}, standing(row.steps) === 'done' ? row.phase : [row.phase, standing(row.steps)].filter(Boolean).join(': '))),
    h('div', {class: 'versions'}, versions(row).map((text, place) => h('div', {class: place ? 'quiet' : null}, text))),
    isQuiet ? null : h('div', {class: 'why'}, row.why),
  );
}

// ------------------------------------------------------------------ one rollout

function drawRollout(view) {
  const shown = view.shown;
  const back = h('p', {class: 'small'}, h('a', {href: '#/'}, '‹ All rollouts'));
  if (!shown) return [back, h('h1', {}, `${view.namespace}/${view.name}`), h('p', {}, 'There is no such SignalCanary, or it was deleted.')];
  const [first, ...others] = versions(shown);
  const title = [
    back,
    h('h1', {}, `${shown.name} `, chip(shown.health)),
    h('p', {class: 'quiet'}, `${shown.namespace} · `,
      h('b', {}, first), others.map((text) => `, ${text}`),
      shown.phase ? ` · ${shown.phase}` : ''),
  ];
  if (shown.conditions === undefined) return [...title, h('div', {class: 'card story held'}, h('p', {}, shown.why))];
  const least = shown.health === 'Progressing' ? promotionLeft(shown.steps) : null;
  const told = [
    h('p', {}, shown.why),
    shown.next ? h('p', {class: 'quiet'}, `Next: ${shown.next}`) : null,
    least === null ? null : h('p', {class: 'quiet'}, `Promotion in ${duration(least)} at the earliest.`),
    shown.lookedAt ? h('p', {class: 'quiet small'}, `The operator last wrote ${ago(shown.lookedAt)}.`) : null,
  ];
  return [
    ...title,
    shown.steps.length ? drawSteps(shown.steps) : null,
    h('div', {class: `card story ${COLOURS[shown.health]}`}, told),
    h('div', {class: 'beside'}, drawVerbs(shown), drawBlocks(shown)),
    ...drawJudged(shown),
    ...drawHistory(shown),
    ...drawWorkloads(shown),
  ];
}

function drawBlocks(shown) {
  if (!shown.blocks.length) return null;
  const most = 5;
  const rest = shown.blocks.slice(most);
  return h('section', {'data-key': 'blocks'},
    h('h2', {}, 'What it waits for'),
    h('div', {class: 'card'},
      h('ul', {class: 'plain'}, shown.blocks.slice(0, most).map((text) => h('li', {}, text))),
      rest.length ? h('details', {}, h('summary', {}, `and ${rest.length} more`), h('ul', {class: 'plain'}, rest.map((text) => h('li', {}, text)))) : null));
}

// ------------------------------------------------------------------ the verbs

function drawVerbs(shown) {
  if (!shown.verbs.length) return null;
  const verbs = ORDER.map((name) => shown.verbs.find((one) => one.verb === name)).filter(Boolean);
  const now = verbs.filter((one) => !one.refusal);
  const later = verbs.filter((one) => one.refusal);
  const isGiven = verbs.every((one) => one.isGiven);
  const button = (one) => h('button', {
    type: 'button', 'data-verb': one.verb, disabled: !one.isGiven, title: one.does,
    class: DANGEROUS.has(one.verb) ? 'danger' : null,
    'aria-describedby': one.isGiven ? null : 'no-right',
  }, one.verb);
  const about = `${shown.namespace}/${shown.name}`;
  return h('section', {'data-key': 'verbs'},
    h('h2', {}, 'Take it in hand'),
    h('div', {class: 'card'},
      said && said.about === about ? h('p', {class: said.isDone ? 'answer' : 'answer refused', role: 'status'}, `${said.verb}: ${said.message}`) : null,
      isGiven ? null : h('p', {id: 'no-right', class: 'refusal'}, verbs[0].refusal),
      isGiven
        ? [
          h('div', {class: 'verbs'}, now.length ? now.map(button) : h('span', {class: 'quiet'}, 'There is nothing to be done now.')),
          later.length ? h('details', {}, h('summary', {}, `Not now: ${later.map((one) => one.verb).join(', ')}`),
            h('div', {class: 'later'}, later.map((one) => [button(one), h('span', {}, one.refusal)]))) : null,
        ]
        : h('div', {class: 'verbs'}, verbs.map(button))));
}

function openDialog(name) {
  const shown = seen.rollout && seen.rollout.shown;
  const verb = shown && shown.verbs.find((one) => one.verb === name);
  if (!verb) return;
  const get = (id) => document.getElementById(`dialog-${id}`);
  const version = shown.canary || shown.stable || shown.name;
  get('title').textContent = `${name} ${verb.to ? shown.stable : version}?`;
  get('does').textContent = `It will ${verb.does}.`;
  get('refusal').textContent = verb.refusal ? `As things stand the operator refuses it: ${verb.refusal}` : '';
  get('to-line').hidden = !verb.to;
  get('to').replaceChildren(...(verb.to || []).map((one) => h('option', {value: one.name}, `${one.version} (${one.name})`)));
  get('reason').value = '';
  get('state').textContent = '';
  get('do').textContent = verb.refusal ? `Ask for ${name} all the same` : `${name[0].toUpperCase()}${name.slice(1)}`;
  get('do').className = DANGEROUS.has(name) ? 'main danger' : 'main';
  get('do').disabled = false;
  const dialog = document.getElementById('dialog');
  dialog.dataset.verb = name;
  dialog.dataset.namespace = shown.namespace;
  dialog.dataset.name = shown.name;
  dialog.showModal();
}

async function doVerb() {
  const dialog = document.getElementById('dialog');
  const {verb, namespace, name} = dialog.dataset;
  const to = document.getElementById('dialog-to').value;
  document.getElementById('dialog-do').disabled = true;
  document.getElementById('dialog-state').textContent = 'Written down; waiting for the operator’s answer …';
  let answer;
  try {
    const response = await fetch('verbs', {
      method: 'POST',
      headers: {'Content-Type': 'application/json'},
      body: JSON.stringify({namespace, name, verb, reason: document.getElementById('dialog-reason').value, ...(verb === 'rollback' ? {to} : {})}),
    });
    answer = await response.json();
  } catch (error) {
    answer = {isDone: false, message: `the page’s server did not answer (${error.message})`};
  }
  said = {...answer, verb, about: `${namespace}/${name}`};
  dialog.close();
  render();
  const button = document.querySelector(`[data-verb="${verb}"]`);
  if (button) button.focus();
}

// ------------------------------------------------------------------ what it is judged by

function drawJudged(shown) {
  const parts = [];
  const decision = shown.decision;
  const isOfDecision = shown.conditionsAreOf === 'decision';
  if (decision) {
    parts.push(
      h('h2', {}, isOfDecision ? 'What was decided, and on what it rests' : 'The last decision'),
      h('div', {class: `card story ${decision.kind === 'promoted' ? 'good' : 'bad'}`},
        h('p', {}, h('b', {}, `${decision.version} was ${decision.kind}`), ` (${decision.reason}) at `, when(decision.time), ` UTC, ${ago(decision.time)}.`),
        // Of the last decision the message stands above.
        isOfDecision && (decision.kind === 'rolled back' || decision.message === shown.why) ? null : h('p', {}, decision.message)),
    );
  }
  if (!isOfDecision && shown.conditions.length) parts.push(h('h2', {}, 'How it is judged now'));
  for (const held of shown.held) {
    parts.push(h('p', {class: 'note'}, `${held.symbol} is held back: ${held.message}`));
  }
  for (const note of shown.notes) parts.push(h('p', {class: 'note'}, note));
  if (shown.leftOut) parts.push(h('p', {class: 'note'}, `${shown.leftOut} more symbols are judged, none worse than these: status has room for the ${shown.conditions[0].symbols.length} worst.`));
  parts.push(...shown.conditions.map((condition) => drawCondition(shown, condition)));
  if (shown.conditions.length && shown.curvesFrom) parts.push(h('p', {class: 'quiet small'}, shown.curvesFrom));
  return parts;
}

function drawCondition(shown, condition) {
  const name = `${shown.namespace}/${shown.name}/${condition.key}`;
  const row = condition.symbols.find((one) => one.symbol === chosen.get(name)) || condition.symbols[0];
  const symbols = condition.symbols;
  const decidedAt = shown.conditionsAreOf === 'decision' ? Date.parse(shown.decision.time) / 1000 : null;
  const hasEvidence = Boolean(row.evidence) || row.points.some((point) => point[4] !== null || point[5] !== null);
  return h('section', {class: 'card condition', 'data-key': condition.key, 'aria-label': condition.words},
    h('div', {class: 'head'}, h('h3', {}, `Rolls back if ${condition.words}`), chip(condition.worst),
      symbols.length > 1 ? h('span', {class: 'quiet small'}, tally(symbols)) : null),
    h('p', {class: 'quiet small'}, condition.means),
    h('div', {class: 'judged'},
      h('div', {}, drawChart(condition, row, decidedAt), drawLegend(condition, hasEvidence)),
      h('div', {}, drawRowStory(condition, row))),
    symbols.length > 1 ? h('div', {class: symbols.length > 8 ? 'many scroll' : 'scroll', tabindex: symbols.length > 8 ? '0' : null, role: symbols.length > 8 ? 'region' : null, 'aria-label': symbols.length > 8 ? 'all symbols' : null}, drawSymbols(name, condition, row)) : null,
  );
}

function tally(symbols) {
  const counts = new Map();
  for (const one of symbols) counts.set(one.verdict, (counts.get(one.verdict) || 0) + 1);
  return `on ${symbols.length} symbols: ${[...counts].map(([verdict, count]) => `${count} ${verdict}`).join(', ')}`;
}

function drawRowStory(condition, row) {
  const evidence = row.evidence;
  const facts = [];
  const add = (label, text) => facts.push(h('dt', {}, label), h('dd', {}, text));
  add('threshold', number(row.threshold, condition.unit));
  if (evidence) {
    add('of late', `${span(evidence.atLeast, evidence.atMost)} for sure`);
    add('over all', `${span(evidence.wholeAtLeast, evidence.wholeAtMost)} for sure`);
  }
  if (row.samples !== undefined) add('rows', number(row.samples) + (row.effectiveSamples === undefined ? '' : `, worth ${number(row.effectiveSamples)} independent ones`));
  if (row.breachedFor) add('breached', `for ${row.breachedFor} of the ${row.allowedFor} it may`);
  if (row.tier && row.tier !== 'Normal') add('tier', row.tier);
  add('to change it', row.wouldChange);
  return [
    h('div', {}, h('b', {}, row.symbol), ' ', chip(row.verdict)),
    h('div', {class: 'value'}, number(row.value, condition.unit)),
    h('p', {class: 'small'}, row.message),
    h('dl', {}, facts),
    h('details', {}, h('summary', {}, 'How it was judged, and what to ask'), h('p', {class: 'small'}, `${row.test} (${row.reason}).`),
      row.query ? h('p', {}, h('code', {}, row.query)) : null),
  ];
}

function drawSymbols(name, condition, row) {
  const scale = scaleOf(condition, condition.symbols);
  return h('table', {},
    h('thead', {}, h('tr', {}, ['symbol', 'verdict', 'value', 'value and evidence against the threshold', 'lately', 'breached'].map((text) => h('th', {scope: 'col', class: text === 'value' ? 'n' : null}, text)))),
    h('tbody', {}, condition.symbols.map((one) => h('tr', {class: one === row ? 'chosen' : null, 'data-key': one.symbol},
      h('td', {}, h('button', {type: 'button', class: 'link', 'data-choose': name, 'data-symbol': one.symbol, 'aria-pressed': String(one === row)}, one.symbol)),
      h('td', {}, chip(one.verdict)),
      h('td', {class: 'n t'}, number(one.value, condition.unit)),
      h('td', {}, drawInterval(condition, one, scale)),
      h('td', {}, drawSpark(condition, one)),
      h('td', {class: 't'}, one.breachedFor ? `${one.breachedFor} of ${one.allowedFor}` : ''),
    ))));
}

// ------------------------------------------------------------------ drawings

function finite(values) {
  return values.filter((value) => typeof value === 'number' && Number.isFinite(value));
}

// From the least to the greatest of what is to be seen, the threshold included.
function scaleOf(condition, rows, withPoints = false) {
  const known = [condition.threshold, ...condition.tiers.map((tier) => tier.limit)];
  for (const row of rows) {
    known.push(row.value);
    if (row.evidence) known.push(row.evidence.atLeast, row.evidence.atMost, row.evidence.wholeAtLeast, row.evidence.wholeAtMost);
    if (withPoints) for (const point of row.points) known.push(point[1]);
  }
  const values = finite(known);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = 0.12 * (high - low) || 0.2 * Math.abs(high) || 1;
  return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
}

function drawInterval(condition, row, [low, high]) {
  const width = 200;
  const height = 22;
  const x = (value, otherwise) => Math.max(0, Math.min(width, (((value ?? otherwise) - low) / (high - low)) * width));
  const limit = x(condition.threshold);
  const told = `value ${number(row.value, condition.unit)}, threshold ${number(condition.threshold, condition.unit)}`
    + (row.evidence ? `, surely ${span(row.evidence.wholeAtLeast, row.evidence.wholeAtMost)} over all rows, ${span(row.evidence.atLeast, row.evidence.atMost)} of late` : '');
  const bar = (from, to, size, style) => {
    const [begin, end] = [x(from, low), x(to, high)].sort((a, b) => a - b);
    return s('rect', {class: style, x: begin.toFixed(1), width: Math.max(2, end - begin).toFixed(1), y: (height - size) / 2, height: size});
  };
  const e = row.evidence;
  return s('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': told},
    s('rect', {class: 'beyond', x: condition.isAbove ? limit.toFixed(1) : 0, width: (condition.isAbove ? width - limit : limit).toFixed(1), y: 0, height}),
    e && (e.wholeAtLeast !== undefined || e.wholeAtMost !== undefined) ? bar(e.wholeAtLeast, e.wholeAtMost, 14, 'whole') : null,
    e && (e.atLeast !== undefined || e.atMost !== undefined) ? bar(e.atLeast, e.atMost, 6, 'late') : null,
    s('line', {class: 'limit', x1: limit.toFixed(1), x2: limit.toFixed(1), y1: 0, y2: height}),
    typeof row.value === 'number' ? s('circle', {class: 'dot', cx: x(row.value).toFixed(1), cy: height / 2, r: 4}) : null);
}

function drawSpark(condition, row) {
  const width = 200;
  const height = 22;
  const points = row.points.filter((point) => point[1] !== null);
  if (points.length < 2) return h('span', {class: 'quiet small'}, 'not yet');
  const [low, high] = scaleOf(condition, [row], true);
  const first = points[0][0];
  const last = points[points.length - 1][0];
  const x = (at) => ((at - first) / (last - first || 1)) * width;
  const y = (value) => height - ((value - low) / (high - low)) * height;
  const limit = y(condition.threshold).toFixed(1);
  return s('svg', {viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: 'none', 'aria-hidden': 'true'},
    s('line', {class: 'limit', x1: 0, x2: width, y1: limit, y2: limit}),
    s('path', {class: 'line', d: path(points.map((point) => [x(point[0]), y(point[1])]))}));
}

function path(points) {
  return points.map(([x, y], place) => `${place ? 'L' : 'M'}${x.toFixed(1)} ${y.toFixed(1)}`).join('');
}

function ticks(low, high, most) {
  const rough = (high - low) / most;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * size).find((one) => one >= rough);
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push(Number(at.toPrecision(6)));
  return found;
}

// One symbol over time against its threshold and evidence, the others behind it.
function drawChart(condition, row, decidedAt) {
  const [width, height, left, bottom, top] = [innerWidth > 760 ? 640 : 360, 240, 52, 22, 8];
  const rows = [...condition.symbols.filter((one) => one !== row), row];
  const [low, high] = scaleOf(condition, rows, true);
  const times = condition.symbols.flatMap((one) => one.points.map((point) => point[0]));
  if (decidedAt !== null) times.push(decidedAt);
  let first = Math.min(...times);
  let last = Math.max(...times);
  if (!times.length) first = last = nowMs() / 1000;
  if (last - first < 60) first = last - 60;
  const x = (at) => left + ((at - first) / (last - first)) * (width - left - 4);
  const y = (value) => top + (1 - (value - low) / (high - low)) * (height - bottom - top);
  const clamp = (value) => Math.max(top, Math.min(height - bottom, y(value)));
  const limit = clamp(condition.threshold);
  const told = `${condition.words} on ${row.symbol} over time: now ${number(row.value, condition.unit)}, threshold ${number(condition.threshold, condition.unit)}`;
  const drawn = (one) => one.points.filter((point) => point[1] !== null).map((point) => [x(point[0]), y(point[1])]);
  const nameY = condition.isAbove ? limit - 5 : limit + 13;
  const shares = width > 400 ? [0, 0.25, 0.5, 0.75, 1] : [0, 0.5, 1];
  const timeTicks = shares.map((share) => first + share * (last - first));
  const anchor = (place) => (place === 0 ? 'start' : place === shares.length - 1 ? 'end' : 'middle');
  const line = drawn(row);
  return s('svg', {viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': told},
    s('rect', {class: 'beyond', x: left, width: width - left - 4, y: (condition.isAbove ? top : limit).toFixed(1), height: Math.max(0, condition.isAbove ? limit - top : height - bottom - limit).toFixed(1)}),
    ticks(low, high, 5).map((value) => [
      s('line', {class: 'axis', x1: left, x2: width - 4, y1: y(value).toFixed(1), y2: y(value).toFixed(1)}),
      s('text', {class: 'tick', x: left - 6, y: (y(value) + 4).toFixed(1), 'text-anchor': 'end'}, number(value)),
    ]),
    timeTicks.map((at, place) => s('text', {class: 'tick', x: x(at).toFixed(1), y: height - 6, 'text-anchor': anchor(place)}, timeLabel(at, last - first))),
    band(row.points, 4, 5, x, clamp, [low, high], 'whole'),
    band(row.points, 2, 3, x, clamp, [low, high], 'late'),
    rows.slice(0, -1).map((one) => s('path', {class: 'others', d: path(drawn(one))})),
    condition.tiers.map((tier) => s('line', {class: 'tier', x1: left, x2: width - 4, y1: clamp(tier.limit).toFixed(1), y2: clamp(tier.limit).toFixed(1)})),
    s('line', {class: 'limit', x1: left, x2: width - 4, y1: limit.toFixed(1), y2: limit.toFixed(1)}),
    s('text', {class: 'limit-name', x: left + 6, y: nameY.toFixed(1)}, `rolls back ${condition.isAbove ? 'above' : 'below'} ${number(condition.threshold, condition.unit)}`),
    decidedAt === null ? null : s('line', {class: 'decided', x1: x(decidedAt).toFixed(1), x2: x(decidedAt).toFixed(1), y1: top, y2: height - bottom}),
    s('path', {class: 'line', d: path(line)}),
    line.length ? s('circle', {class: 'dot', cx: line[line.length - 1][0].toFixed(1), cy: line[line.length - 1][1].toFixed(1), r: 4}) : null,
    line.length ? null : s('text', {class: 'tick', x: width / 2, y: height / 2, 'text-anchor': 'middle'}, row.points.length ? 'no value yet' : 'no values over time are known'));
}

function timeLabel(at, whole) {
  const text = new Date(at * 1000).toISOString();
  return whole > 36 * 3600 ? text.slice(5, 16).replace('T', ' ') : whole > 1200 ? text.slice(11, 16) : text.slice(11, 19);
}

// What the value surely is; an end that is not known is at the edge.
function band(points, lower, upper, x, y, [low, high], style) {
  const known = points.filter((point) => point[lower] !== null || point[upper] !== null);
  if (known.length === 0) return null;
  const above = known.map((point) => [x(point[0]), y(Math.max(point[lower] ?? low, point[upper] ?? high))]);
  const below = known.map((point) => [x(point[0]), y(Math.min(point[lower] ?? low, point[upper] ?? high))]);
  return s('path', {class: style, d: `${path([...above, ...below.reverse()])}Z`});
}

function drawLegend(condition, hasEvidence) {
  const entry = (style, text) => h('span', {}, h('i', {class: `k-${style}`}), text);
  return h('div', {class: 'legend'},
    entry('line', 'value'),
    hasEvidence ? [
      entry('late', `where it surely is of late: all of it beyond the threshold rolls back`),
      entry('whole', 'where it surely is over all rows: all of it within is Ok'),
    ] : null,
    entry('limit', 'threshold (times are UTC)'),
    condition.symbols.length > 1 ? entry('others', 'the other symbols') : null);
}

// ------------------------------------------------------------------ what has happened

function drawHistory(shown) {
  const line = (entry) => h('tr', {},
    h('td', {class: 't'}, when(entry.time)),
    h('td', {class: 't'}, h('b', {}, entry.phase || entry.reason), entry.phase ? h('span', {class: 'quiet small'}, ` ${entry.reason}`) : null),
    h('td', {class: 'wide'}, entry.message));
  const head = () => h('thead', {}, h('tr', {}, ['UTC', 'phase, or Event', 'what happened'].map((text) => h('th', {scope: 'col'}, text))));
  const most = 10;
  const rest = shown.history.slice(most);
  if (!shown.history.length) return [];
  return [
    h('h2', {}, 'What has happened'),
    h('div', {class: 'card'}, h('table', {class: 'history'}, head(), h('tbody', {}, shown.history.slice(0, most).map(line))),
      rest.length ? h('details', {}, h('summary', {}, `${rest.length} earlier`), h('table', {class: 'history'}, head(), h('tbody', {}, rest.map(line)))) : null),
  ];
}

function drawWorkloads(shown) {
  const parts = [];
  if (shown.workloads.length) {
    parts.push(h('h2', {}, 'What runs'), h('div', {class: 'card scroll'}, h('table', {},
      h('thead', {}, h('tr', {}, ['track', 'component', 'ready', 'restarts', 'StatefulSet', 'problem'].map((text) => h('th', {scope: 'col'}, text)))),
      h('tbody', {}, shown.workloads.map((one) => h('tr', {},
        [one.track, one.component, one.ready, String(one.restarts ?? ''), one.name, one.message || ''].map((text) => h('td', {}, text))))))));
  }
  if (shown.revisions.length) {
    parts.push(h('h2', {}, 'Revisions on record'), h('div', {class: 'card scroll'}, h('table', {},
      h('thead', {}, h('tr', {}, ['version', 'revision', 'is', 'first seen', 'image'].map((text) => h('th', {scope: 'col'}, text)))),
      h('tbody', {}, [...shown.revisions].reverse().map((one) => h('tr', {},
        h('td', {}, one.version), h('td', {}, h('code', {}, one.name)), h('td', {}, one.role),
        h('td', {class: 't'}, one.created ? when(one.created) : ''), h('td', {class: 'wide'}, one.image)))))));
  }
  const serving = shown.serving;
  const all = `Judged on ${serving.canary.join(', ')}; once promoted it serves ${serving.full.join(', ')}.`;
  parts.push(serving.full.length > 12
    ? h('details', {}, h('summary', {}, `Judged on ${serving.canary.length} symbols; once promoted it serves ${serving.full.length}`), h('p', {class: 'small'}, all))
    : h('p', {class: 'quiet small'}, all));
  for (const kept of serving.kept) parts.push(h('p', {class: 'note'}, `Left on an earlier revision: ${kept}`));
  return parts;
}

// ------------------------------------------------------------------ drawing it all

function route() {
  const [, namespace, name] = location.hash.split('/');
  try {
    return namespace && name ? `${decodeURIComponent(namespace)}/${decodeURIComponent(name)}` : '';
  } catch {
    return '';
  }
}

function render() {
  drawLink();
  const wanted = route();
  let parts;
  if (!wanted) {
    if (!seen.fleet) return;
    parts = drawFleet(seen.fleet);
    document.title = 'SignalCanary';
  } else {
    const view = seen.rollout;
    if (!view || `${view.namespace}/${view.name}` !== wanted) return;
    parts = drawRollout(view);
    document.title = view.shown ? `${view.shown.health}: ${view.name}` : view.name;
  }
  const main = document.getElementById('main');
  const focused = document.activeElement;
  const fresh = h('main', {id: 'main', tabindex: '-1', 'data-key': wanted}, parts);
  if (main.dataset.key !== wanted) main.replaceWith(fresh);
  else morph(main, fresh);
  // What is moved loses the focus.
  if (focused !== document.activeElement && focused.isConnected) focused.focus({preventScroll: true});
}

function drawLink() {
  const link = document.getElementById('link');
  const trouble = seen.fleet && seen.fleet.trouble;
  let [style, text] = ['', 'connecting …'];
  if (seen.isLost) [style, text] = ['lost', 'not live: the page’s server does not answer; run signalcanary dashboard again if it has ended'];
  else if (trouble) [style, text] = ['lost', `not up to date, trying again: ${trouble}`];
  else if (seen.fleet && seen.fleet.isListed) [style, text] = ['live', 'live'];
  if (link.className !== style) link.className = style;
  if (link.textContent !== text) link.textContent = text;
  if (seen.fleet) document.getElementById('where').textContent = seen.fleet.where;
}

function connect() {
  if (stream) stream.close();
  const wanted = route();
  stream = new EventSource(wanted ? `stream?rollout=${encodeURIComponent(wanted)}` : 'stream');
  stream.addEventListener('fleet', (event) => { seen.fleet = JSON.parse(event.data); render(); });
  stream.addEventListener('rollout', (event) => { seen.rollout = JSON.parse(event.data); render(); });
  stream.addEventListener('ping', (event) => {
    seen.skewMs = Date.parse(JSON.parse(event.data).now) - Date.now();
    seen.isLost = false;
    render();
  });
  stream.onerror = () => { seen.isLost = true; render(); };
}

addEventListener('hashchange', () => {
  said = null;
  document.getElementById('main').replaceChildren(h('p', {class: 'quiet'}, 'Asking the cluster …'));
  connect();
  render();
  scrollTo(0, 0);
  document.getElementById('main').focus({preventScroll: true});
});
document.addEventListener('click', (event) => {
  if (event.target.closest('.skip')) {
    event.preventDefault(); // the address says which rollout is shown
    document.getElementById('main').focus();
    return;
  }
  const button = event.target.closest('button');
  if (!button) return;
  if (button.dataset.verb) openDialog(button.dataset.verb);
  else if (button.dataset.choose) { chosen.set(button.dataset.choose, button.dataset.symbol); render(); }
  else if (button.id === 'dialog-cancel') document.getElementById('dialog').close();
  else if (button.id === 'dialog-do') doVerb();
});
document.addEventListener('input', (event) => {
  if (event.target.id === 'filter') { filter = event.target.value; render(); }
});
document.getElementById('dialog-reason').addEventListener('keydown', (event) => {
  if (event.key === 'Enter') doVerb();
});
setInterval(render, 1000);
connect();
