// Creates a container in an Azure storage account: ENDPOINT ACCOUNT KEY CONTAINER. The request is signed by "Shared Key"
// (Microsoft, Blob service REST API: Authorize with Shared Key; Create Container).
import { createHmac } from "node:crypto";

const [endpoint, account, key, container] = process.argv.slice(2);
const url = new URL(`${endpoint}/${container}?restype=container`);
const headers = { "x-ms-date": new Date().toUTCString(), "x-ms-version": "2021-12-02" };
// The method, eleven standard headers that are absent, the headers of the service, and the resource.
const text =
  `PUT\n${"\n".repeat(11)}` +
  Object.keys(headers).sort().map((name) => `${name}:${headers[name]}\n`).join("") +
  `/${account}${url.pathname}\nrestype:container`;
const signature = createHmac("sha256", Buffer.from(key, "base64")).update(text, "utf8").digest("base64");
const answer = await fetch(url, {
  method: "PUT",
  headers: { ...headers, Authorization: `SharedKey ${account}:${signature}` },
});
if (!answer.ok) throw new Error(`${answer.status} ${await answer.text()}`);
