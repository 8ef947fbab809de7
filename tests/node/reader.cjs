"use strict";
// Says what JSON.parse makes of a body: a frame in, a frame out (tests/readers.py has the format).
//
// The bytes become text as they do in fetch and in most body parsers: what is no UTF-8 is replaced, and a
// byte order mark is dropped. So this reads all that anybody here reads.

const texts = (text) => '"' + Buffer.from(text, "utf8").toString("hex");

const numbers = (number) => {
  const bits = Buffer.alloc(8);
  bits.writeDoubleBE(number === 0 ? 0 : number);
  return "#" + bits.toString("hex");
};

const dump = (value) => {
  if (value === null) return "~";
  if (typeof value === "boolean") return value ? "t" : "f";
  if (typeof value === "number") return numbers(value);
  if (typeof value === "string") return texts(value);
  if (Array.isArray(value)) return "[" + value.map(dump).join(",") + "]";
  const members = Object.keys(value).map((name) => texts(name) + ":" + dump(value[name]));
  return "{" + members.sort().join(",") + "}";
};

const read = (body) => {
  try {
    return dump(JSON.parse(new TextDecoder().decode(body)));
  } catch (error) {
    return "error " + error.name;
  }
};

let waiting = Buffer.alloc(0);
process.stdin.on("data", (chunk) => {
  waiting = Buffer.concat([waiting, chunk]);
  while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32BE(0)) {
    const end = 4 + waiting.readUInt32BE(0);
    // The first byte of a frame is the protocol; JavaScript reads all of them alike.
    const answer = Buffer.from(read(waiting.subarray(5, end)), "utf8");
    const size = Buffer.alloc(4);
    size.writeUInt32BE(answer.length);
    process.stdout.write(Buffer.concat([size, answer]));
    waiting = waiting.subarray(end);
  }
});
