// What comes from PostgreSQL's log, compiled together with Sources/Invalidation: see `run`.
//
// An input is a stream of messages, each behind two bytes with its length. Whatever they say, the reader must come back
// with an event or an error.
import Configuration

private let plan: KeyPlan = {
  let text = #"""
    { "namespace": "shop", "redis": "redis://h", "postgres": "postgres://h/d",
      "tables": {
        "users": { "keys": ["user:{id}", "name:{name|lower}:{code}"], "columns": ["bio"], "tags": "u:{id}" },
        "orders": { "keys": ["order:{id}:*", "of:{note|urlencode}"], "when": "old.note IS DISTINCT FROM new.note" },
        "lines": { "lookup": [{ "sql": "SELECT a FROM t WHERE b = :id", "keys": "line:{a}" }] } },
      "caches": { "page:{id}": { "tags": "u:{id}" } } }
    """#
  let reading = ConfigurationReader.read(Array(text.utf8), file: "fuzz.json", environment: [:]) { _ in nil }
  guard let settings = reading.settings else { fatalError("\(reading.report)") }
  return KeyPlan(tables: settings.tables, caches: settings.caches, keyPrefix: "shop:")
}()

private func column(_ name: String, _ type: UInt32, _ typeName: String) -> CatalogueColumn {
  CatalogueColumn(
    name: name, type: type, typeName: typeName, typeKind: "b", inIdentity: true, isGenerated: false,
    isNotNull: true)
}

private let tables: [CatalogueTable] = [
  (
    10, "users",
    [
      column("id", 20, "int8"), column("name", 25, "text"), column("code", 1042, "bpchar"),
      column("bio", 25, "text"),
    ]
  ),
  (20, "orders", [column("id", 20, "int8"), column("note", 25, "text")]),
  (30, "lines", [column("id", 20, "int8"), column("b", 16, "bool")]),
].map { (id: UInt32, name: String, columns: [CatalogueColumn]) in
  CatalogueTable(
    id: id, schema: "public", name: name, rootSchema: "public", rootName: name, kind: "r", persistence: "p",
    identity: .full, columns: columns, hasRowFilter: false, publishedColumns: nil)
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ pointer: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  guard let pointer else { return 0 }
  let bytes = UnsafeRawBufferPointer(start: pointer, count: count)
  var reader = LogReader(plan: plan, maximumKeys: 100)
  for table in tables { reader.learn(table) }
  var batch = KeyBatch()
  var at = 0
  while at + 2 <= count {
    let length = min(Int(bytes[at]) << 8 | Int(bytes[at + 1]), count - at - 2)
    at += 2
    // A copy of its own, so that a byte read behind its end is one behind an allocation.
    let message = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 1)
    defer { message.deallocate() }
    message.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[at..<at + length]))
    at += length
    do throws(PgOutputError) {
      switch try reader.read(UnsafeRawBufferPointer(message), into: &batch) {
      case .committed(let commit): batch.complete(through: commit.end)
      default: break
      }
    } catch {
      _ = error.description
      break
    }
  }
  for index in 0..<batch.count { batch.withKey(index) { key, _ in precondition(!key.isEmpty) } }
  return 0
}
