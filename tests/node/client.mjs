// A client that knows nothing but the protos: `node client.mjs ADDRESS PROTO_DIRECTORY`. Prints what it saw, as JSON.
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";

const [address, protos] = process.argv.slice(2);
const definition = loader.loadSync("vllmd/v1/engine_service.proto", {
  includeDirs: [protos],
  keepCase: true,
  longs: Number,
  enums: String,
  defaults: true,
  oneofs: true,
});
const { EngineService } = grpc.loadPackageDefinition(definition).vllmd.v1;
const credentials = grpc.credentials.createInsecure();
const engines = new EngineService(address, credentials);

const unary = (method, request) =>
  new Promise((resolve, reject) =>
    engines[method](request, (error, response) => (error ? reject(error) : resolve(response))),
  );

const all = (call) =>
  new Promise((resolve) => {
    const responses = [];
    call.on("data", (response) => responses.push(response));
    call.on("error", (error) => resolve({ responses, code: error.code, details: error.details, error }));
    call.on("end", () => resolve({ responses, code: grpc.status.OK }));
  });

// One method, by its name alone and in bytes: what a client without our protos can do.
const generic = (path, bytes, streams) => {
  const same = (value) => value;
  const method = {
    path,
    requestStream: streams,
    responseStream: streams,
    requestSerialize: same,
    responseDeserialize: same,
  };
  const Client = grpc.makeGenericClientConstructor({ call: method }, "generic");
  const client = new Client(address, credentials);
  return new Promise((resolve, reject) => {
    if (!streams) {
      client.call(Buffer.from(bytes), (error, response) => (error ? reject(error) : resolve(response)));
      return;
    }
    const call = client.call();
    call.on("data", (response) => {
      call.end();
      resolve(response);
    });
    call.on("error", reject);
    call.write(Buffer.from(bytes));
  });
};

const numbers = (values) => ({
  fields: Object.fromEntries(Object.entries(values).map(([name, numberValue]) => [name, { numberValue }])),
});

const load = await all(
  engines.LoadModel({ model: "a/model", engine_args: numbers({ fake_load_seconds: 0.5, fake_tokens_per_second: 200 }) }),
);
const { lease, engine } = load.responses.at(-1).loaded;

const whole = await all(
  engines.Generate({ lease: lease.name, text: "once upon a time", sampling_params: { max_tokens: 20 } }),
);

const call = engines.Generate({ lease: lease.name, text: "for ever", sampling_params: { max_tokens: 100000 } });
let heard = 0;
call.on("data", () => (++heard === 3 ? call.cancel() : undefined));
const cancelled = await new Promise((resolve) => call.on("error", (error) => resolve(error.code)));

const refused = await all(engines.Generate({ lease: lease.name, text: "", sampling_params: {} }));
const released = await unary("Release", { lease: lease.name });
const again = await unary("Release", { lease: lease.name }).catch((error) => error);

const health = await generic("/grpc.health.v1.Health/Check", [], false);
const services = await generic("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", [0x3a, 0], true);

console.log(
  JSON.stringify({
    progress: load.responses.slice(0, -1).every((response) => response.update === "progress"),
    updates: load.responses.length,
    model: engine.model,
    text: whole.responses.map((response) => response.text).join(""),
    tokens: whole.responses.flatMap((response) => response.token_ids).length,
    usage: whole.responses.at(-1).usage,
    finish: whole.responses.at(-1).finish_reason,
    cancelled,
    refused: refused.code,
    released: released.engine.state,
    verified: released.engine.reclaim.verified,
    again: { code: again.code, detailed: again.metadata.get("grpc-status-details-bin").length },
    serving: health.equals(Buffer.from([8, 1])),
    reflected: ["EngineService", "HostService"].every((name) => services.includes(`vllmd.v1.${name}`)),
  }),
);
engines.close();
process.exit(0);
