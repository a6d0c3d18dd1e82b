// A plain NATS client that follows docs/wire.md: it submits tasks, waits for their outcomes, reads what a task
// said meanwhile, serves an endpoint, asks one, and works as a worker. One command a line on standard input, one
// JSON answer a line on standard output.

import { createInterface } from "node:readline";
import { connect, createInbox, headers, nanos } from "@nats-io/transport-node";

const [url, namespace] = process.argv.slice(2);
const stream = `ROOST_${namespace}`;
const nc = await connect({ servers: url });

function withHeaders(pairs) {
  const head = headers();
  for (const [name, value] of Object.entries(pairs)) head.set(name, String(value));
  return head;
}

async function store(subject, value, guards) {
  for (const until = Date.now() + 10000; ;) {
    try {
      const options = { timeout: 5000, headers: withHeaders(guards) };
      const answer = (await nc.request(subject, JSON.stringify(value), options)).json();
      if (!answer.error) return { seq: answer.seq };
      if (answer.error.err_code !== 10164) return { code: answer.error.err_code };
    } catch (error) { // in a cluster nobody listens while the log has no leader
      if (!String(error).includes("no responders") || Date.now() > until) throw error;
    }
    await new Promise((done) => setTimeout(done, 20));
  }
}

async function read(subject) {
  const found = await nc.request(`$JS.API.DIRECT.GET.${stream}.${subject}`, "", { timeout: 5000 });
  return found.headers?.code === 404 ? null : { value: found.json(), seq: Number(found.headers.get("Nats-Sequence")) };
}

function guard(run, name, id, sequence) {
  return {
    "Nats-Expected-Last-Subject-Sequence": sequence,
    "Nats-Expected-Last-Subject-Sequence-Subject": `${namespace}.run.${run}.*.${name}.${id}`,
  };
}

async function submit({ name, key, value }) {
  const id = `${name}:${key}`;
  return { id, ...(await store(`${namespace}.run.${id}.task.${name}.${id}`, value, guard(id, name, id, 0))) };
}

async function outcome({ name, id }) {
  const subject = `${namespace}.run.${id}.end.${name}.${id}`;
  const hints = nc.subscribe(`${namespace}.live.run.${id}.end.${name}.${id}`, { max: 1 });
  await nc.flush();
  for (const delay of [250, 500, 1000, 2000, 5000, 5000]) {
    const found = await read(subject);
    if (found) {
      hints.unsubscribe();
      return found.value;
    }
    let timer;
    const hint = (async () => { for await (const _ of hints) return; })();
    await Promise.race([hint, new Promise((done) => { timer = setTimeout(done, delay); })]);
    clearTimeout(timer);
  }
  return null;
}

function serve({ name, answer }) {
  nc.subscribe(`${namespace}.endpoint.${name}`, {
    queue: "roost",
    callback: (error, message) => {
      if (error || !message.reply?.startsWith("_INBOX")) return;
      const value = message.json();
      if (value.text === "refuse me") {
        const head = { "Nats-Service-Error-Code": 422, "Nats-Service-Error": "no", "Roost-Error": "rejected" };
        message.respond(JSON.stringify({ code: "rejected", message: "no" }), { headers: withHeaders(head) });
      } else {
        message.respond(JSON.stringify({ ...value, ...answer }));
      }
    },
  });
  return nc.flush().then(() => ({}));
}

async function ask({ name, value }) {
  const head = withHeaders({ "Roost-Timeout-Ms": 5000 });
  const answer = await nc.request(`${namespace}.endpoint.${name}`, JSON.stringify(value), { timeout: 5000, headers: head });
  const code = answer.headers?.get("Roost-Error");
  return code ? { error: code, ...answer.json() } : { value: answer.json() };
}

// Take one task from the consumer that all workers of a contract share, and end it.
async function work({ name, result }) {
  const inbox = createInbox();
  const pulled = nc.subscribe(inbox, { max: 1 });
  nc.publish(`$JS.API.CONSUMER.MSG.NEXT.${stream}.task_${name}`, JSON.stringify({ batch: 1, expires: nanos(5000) }), { reply: inbox });
  for await (const message of pulled) {
    const parts = message.reply.split(".");  // $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>....
    const sequence = Number(parts[5]);
    const [, , run, , , id] = message.subject.split(".");
    const value = message.json();
    const token = `node-${process.pid}-${sequence}`;
    const attempts = [{ k: 1, by: "node", at: Date.now() / 1000, s: 0.001 }];
    const end = { status: "done", token, attempts, value: { ...value, ...result } };
    const stored = await store(`${namespace}.run.${run}.end.${name}.${id}`, end, guard(run, name, id, sequence));
    await nc.request(message.reply, "+ACK", { timeout: 5000 });
    return { id, ...stored };
  }
  return null;
}

const commands = { submit, outcome, serve, ask, work };
for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...given } = JSON.parse(line);
  try {
    console.log(JSON.stringify(await commands[command](given)));
  } catch (error) {
    console.log(JSON.stringify({ failed: String(error) }));
  }
}
await nc.close();
