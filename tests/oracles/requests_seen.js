// Node's HTTP server as an oracle: for each connection, when it has ended, one line of JSON with its whole requests.
"use strict";

const http = require("node:http");

const connections = new Map();

const options = {
  insecureHTTPParser: false,
  maxHeaderSize: 1 << 20,
  headersTimeout: 0,
  requestTimeout: 0,
  keepAliveTimeout: 0,
};

const server = http.createServer(options, (request, response) => {
  const requests = connections.get(request.socket).requests;
  const place = requests.push(null) - 1;
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    const headers = [];
    for (let at = 0; at < request.rawHeaders.length; at += 2) {
      headers.push([request.rawHeaders[at], request.rawHeaders[at + 1]]);
    }
    const body = Buffer.concat(pieces).toString("base64");
    requests[place] = { method: request.method, target: request.url, headers, body };
    response.end();
  });
});
server.maxHeadersCount = 0;

server.on("connection", (socket) => {
  connections.set(socket, { port: socket.remotePort, requests: [], fault: "" });
  socket.on("close", () => {
    const report = connections.get(socket);
    connections.delete(socket);
    report.requests = report.requests.filter((request) => request !== null);
    process.stdout.write(JSON.stringify(report) + "\n");
  });
});

server.on("clientError", (fault, socket) => {
  const report = connections.get(socket);
  // A connection that ends in the middle of a request is no fault of its bytes.
  if (report && fault.code !== "HPE_INVALID_EOF_STATE" && fault.code !== "ECONNRESET") {
    report.fault = fault.code || String(fault);
  }
  socket.destroy();
});

server.listen(0, "127.0.0.1", () => process.stdout.write(server.address().port + "\n"));
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
