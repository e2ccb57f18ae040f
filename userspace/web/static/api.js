// The admin API, over the read methods that this server lets everybody call.

const base = "/fairlead.admin.v1.Admin/";

// call asks for a method and returns what is answered, or throws why it failed.
export async function call(method, request = {}) {
  const answer = await fetch(base + method, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(request),
    signal: AbortSignal.timeout(10_000),
  });
  let body = {};
  try {
    body = await answer.json();
  } catch {
    // What is no JSON comes from somebody else: the status says enough.
  }
  if (!answer.ok) {
    throw new Error(body.message || `${answer.status} ${answer.statusText}`);
  }
  return body;
}

// number returns a number of the API: those of 64 bits come as text, and 0 is
// left out.
export const number = (value) => Number(value ?? 0);

// seconds returns a time of the API as seconds since 1970: Date.parse stops at
// milliseconds.
export const seconds = (text = "") => Date.parse(text.replace(/\.\d+/, "")) / 1000 + Number(/\.\d+/.exec(text)?.[0] ?? 0);
