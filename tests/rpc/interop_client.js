// A client in another language: records a fill twice, lists it, and shows what an error looks like.
// node interop_client.js HOST:PORT FOLDER-OF-NODE-MODULES PROTO-FOLDER...
const [address, modules, ...includeDirs] = process.argv.slice(2);
const { createRequire } = require("module");
const load = createRequire(modules + "/");
const grpc = load("@grpc/grpc-js");
const loader = load("@grpc/proto-loader");

const definition = loader.loadSync("steelyard/v1/fill_service.proto", {
  keepCase: true, longs: String, enums: String, defaults: true, includeDirs,
});
const { FillService } = grpc.loadPackageDefinition(definition).steelyard.v1;
const client = new FillService(address, grpc.credentials.createInsecure());

const call = (method, request) => new Promise((resolve) => {
  let trailers = null;
  let outcome = null;
  const done = () => {
    if (trailers !== null && outcome !== null) resolve({ ...outcome, request_id: trailers.get("x-request-id")[0] });
  };
  const ongoing = client[method](request, { deadline: Date.now() + 10000 }, (error, answer) => {
    outcome = error ? { code: error.code, text: error.details, has_details: error.metadata.get("grpc-status-details-bin").length } : { answer };
    done();
  });
  ongoing.on("status", (status) => { trailers = status.metadata; done(); });
});

const fill = {
  fill_id: "node-1", account: "node", instrument: "MNQ SEP25", side: "SIDE_BUY", quantity: "2", price: "25000.25",
  executed_at: { seconds: "1750428000", nanos: 123456000 },
};
(async () => {
  const first = await call("RecordFill", { fill });
  const again = await call("RecordFill", { fill });
  const conflict = await call("RecordFill", { fill: { ...fill, price: "1" } });
  const listed = await call("ListFills", { account: "node" });
  console.log(JSON.stringify({ first, again, conflict, listed }));
  client.close();
})();
