// client.js - a client of Tandem in Node.js, as one is usually written: @grpc/grpc-js, TLS, a certificate or a token.
// What it is called with, reads and prints: see ../cpp/client.cc.
//
// NODE_PATH says where its packages are.
'use strict';

const fs = require('fs');
const path = require('path');
const readline = require('readline');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync('tandem/order/v1/order_service.proto', {
  includeDirs: [path.join(__dirname, '..', '..', '..', 'proto')], keepCase: true, enums: String, longs: Number,
});
const order = grpc.loadPackageDefinition(definition).tandem.order.v1;

function credentials([ca, second, key]) {
  const read = (file) => file && fs.readFileSync(file);
  if (key || !second)
    return grpc.credentials.createSsl(read(ca), read(key), read(second));
  const token = read(second).toString();
  const bearer = grpc.credentials.createFromMetadataGenerator((_, done) => {
    const metadata = new grpc.Metadata();
    metadata.set('authorization', `Bearer ${token}`);
    done(null, metadata);
  });
  return grpc.credentials.combineChannelCredentials(grpc.credentials.createSsl(read(ca)), bearer);
}

const [target, ...files] = process.argv.slice(2);
const stub = new order.OrderService(target, credentials(files));

function call(method, request) {
  return new Promise((resolve) => {
    stub[method](request, { deadline: Date.now() + 60000 }, (error, answer) => {
      if (error)
        console.error(error.details);
      resolve(error ? `${error.code}` : `0 ${answer.order.order_id} ${answer.order.status}`);
    });
  });
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [what, ...words] = line.split(' ');
    console.log(what === 'get' ? await call('GetOrder', { order_id: words[0] }) : await call('PlaceOrder', {
      customer_id: words[0], lines: [{ sku: words[1], quantity: Number(words[2]) }], wait_for_decision: true,
    }));
  }
  stub.close();
}

main();
