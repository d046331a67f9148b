// The same job in Node.js, tuned: atomic Lua steps pipelined by ioredis, one streamed and batched
// hop from gateway to order.
//   node peer.js gateway LISTEN ORDER_TARGET
//   node peer.js order LISTEN REDIS_SOCKET
//   node peer.js inventory REDIS_SOCKET SKUS
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');
const Redis = require('ioredis');

// scripts/bench runs a copy of this file beside the packages it needs.
const ROOT = process.env.TANDEM_ROOT || path.join(__dirname, '../../..');
const PROTO = path.join(ROOT, 'proto');
const LUA = path.join(ROOT, 'bench/peers');
const ORDERS = 'order:{0}:events';
const STOCK = 'inventory:{0}:stock';
const ANSWERS = 'inventory:{0}:events';
const definition = loader.loadSync(
    ['tandem/order/v1/order_service.proto'],
    {includeDirs: [PROTO, '/usr/include'], keepCase: true, longs: Number, enums: Number});
const proto = grpc.loadPackageDefinition(definition).tandem.order.v1;
const options = {'grpc.max_concurrent_streams': 100000};

function newOrderId() {
    const alphabet = 'abcdefghijklmnopqrstuvwxyz234567';
    let id = 'ord_';
    for (const b of crypto.randomBytes(26)) id += alphabet[b & 31];
    return id;
}

function valid(r) {
    return r.customer_id && r.customer_id.length <= 128 && r.lines.length >= 1 && r.lines.length <= 100 &&
        r.lines.every((l) => l.sku && l.sku.length <= 64 && l.quantity >= 1 && l.quantity <= 1000000);
}

function connect(socket) {
    const redis = new Redis({path: socket, enableAutoPipelining: true});
    for (const [name, keys] of [['place', 2], ['reserve', 4], ['decide', 3]])
        redis.defineCommand(name + 'Step', {numberOfKeys: keys,
            lua: fs.readFileSync(path.join(LUA, name + '.lua'), 'utf8')});
    return redis;
}

function serve(listen, handlers) {
    const server = new grpc.Server(options);
    server.addService(proto.OrderService.service, handlers);
    server.bindAsync(listen, grpc.ServerCredentials.createInsecure(), (error) => {
        if (error) throw error;
        console.log('ready');
    });
}

// One stream to the order service for all calls: answers carry the sequence back.
function gateway(listen, target) {
    const client = new proto.OrderService(target, grpc.credentials.createInsecure(), options);
    const waiting = new Map();
    let sequence = 0;
    const stream = client.StreamOrders();
    stream.on('data', (answer) => {
        const callback = waiting.get(answer.sequence);
        waiting.delete(answer.sequence);
        if (answer.order.error) callback({code: answer.order.error.code, details: answer.order.error.message});
        else callback(null, {order: answer.order.order});
    });
    stream.on('error', (error) => { throw error; });
    serve(listen, {
        PlaceOrder(call, callback) {
            if (!valid(call.request)) {
                callback({code: grpc.status.INVALID_ARGUMENT, details: 'a limit is broken'});
                return;
            }
            waiting.set(++sequence, callback);
            stream.write({sequence, request: call.request});
        },
    });
}

async function consume(socket, stream, group, handle) {
    const reader = new Redis({path: socket});
    await reader.xgroup('CREATE', stream, group, '0', 'MKSTREAM').catch((error) => {
        if (!String(error).includes('BUSYGROUP')) throw error;
    });
    for (;;) {
        const got = await reader.xreadgroupBuffer('GROUP', group, 'one', 'COUNT', 128, 'BLOCK', 5000,
            'STREAMS', stream, '>');
        if (!got) continue;
        const work = [];
        const now = new Date().toISOString();
        for (const [id, fields] of got[0][1]) {
            const entry = {entry: id.toString(), now};
            for (let i = 0; i < fields.length; i += 2) {
                const name = fields[i].toString();
                entry[name] = name === 'data' ? fields[i + 1] : fields[i + 1].toString();
            }
            work.push(handle(entry));
        }
        await Promise.all(work);
    }
}

async function order(listen, socket) {
    const redis = connect(socket);
    const OrderPlaced = codec('tandem.order.v1.OrderPlaced');
    async function place(request) {
        const id = newOrderId();
        const data = OrderPlaced.encode({content: {customer_id: request.customer_id, lines: request.lines}});
        const now = new Date();
        await redis.placeStep('order:{0}:o:' + id, ORDERS, id, data, now.toISOString());
        return {order_id: id, customer_id: request.customer_id, lines: request.lines, status: 1, version: 1,
            create_time: {seconds: Math.floor(now / 1000), nanos: (now % 1000) * 1e6}};
    }
    consume(socket, ANSWERS, 'order', (e) => {
        const yes = e.type === 'tandem.inventory.v1.InventoryReserved';
        return redis.decideStep('order:{0}:o:' + e.subject, ORDERS, ANSWERS, e.subject, e.entry, e.now,
            yes ? 'RESERVED' : 'REJECTED', 'tandem.order.v1.' + (yes ? 'OrderReserved' : 'OrderRejected'));
    });
    serve(listen, {
        StreamOrders(call) {
            call.on('data', (message) => {
                place(message.request).then(
                    (placed) => call.write({sequence: message.sequence, order: {order: placed}}),
                    (error) => call.write({sequence: message.sequence,
                        order: {error: {code: grpc.status.UNAVAILABLE, message: String(error)}}}));
            });
            call.on('end', () => call.end());
        },
    });
}

async function inventory(socket, skus) {
    const redis = connect(socket);
    const OrderPlaced = codec('tandem.order.v1.OrderPlaced');
    const pipeline = redis.pipeline();
    for (let i = 0; i < skus; i++)
        pipeline.hset(STOCK, 'load-' + String(i).padStart(4, '0'), 1000000000);
    await pipeline.exec();
    console.log('ready');
    await consume(socket, ORDERS, 'inventory', (e) => {
        if (e.type !== 'tandem.order.v1.OrderPlaced') return redis.xack(ORDERS, 'inventory', e.entry);
        const args = [];
        for (const line of OrderPlaced.decode(e.data).content.lines) args.push(line.sku, line.quantity);
        return redis.reserveStep('inventory:{0}:r:' + e.subject, STOCK, ANSWERS, ORDERS, e.subject, e.entry, e.now,
            ...args);
    });
}

// protobufjs, which proto-loader brings, packs and unpacks the events.
function codec(name) {
    const protobuf = require('protobufjs');
    const root = new protobuf.Root();
    root.resolvePath = (from, file) => {
        const own = path.join(PROTO, file);
        return fs.existsSync(own) ? own : path.join('/usr/include', file);
    };
    root.loadSync('tandem/order/v1/order_events.proto', {keepCase: true});
    const type = root.lookupType(name);
    return {encode: (o) => Buffer.from(type.encode(type.fromObject(o)).finish()), decode: (b) => type.decode(b)};
}

const [role, ...rest] = process.argv.slice(2);
const roles = {gateway, order, inventory};
if (!roles[role]) {
    console.error('usage: node peer.js gateway|order|inventory …');
    process.exit(2);
}
roles[role](...rest.map((a, i) => (role === 'inventory' && i === 1 ? Number(a) : a)));
