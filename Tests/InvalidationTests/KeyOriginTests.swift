import Configuration
import Testing

@testable import Invalidation

@Suite("Why a key is cleared")
struct KeyOriginTests {
  private func origins(_ batch: borrowing KeyBatch) -> [UInt32] {
    (0..<batch.count).map { batch.origin($0).transaction }
  }

  private func add(_ key: String, _ transaction: UInt32, _ batch: inout KeyBatch) {
    let origin = KeyOrigin(transaction: transaction, table: 0, rule: 0)
    Array(key.utf8).withUnsafeBytes { batch.append($0, table: 0, origin: origin) }
  }

  @Test("a key has the transaction that named it last, once that one has ended")
  func last() {
    var batch = KeyBatch()
    add("a", 1, &batch)
    add("b", 1, &batch)
    batch.complete(through: LSN(1))
    add("a", 2, &batch)
    add("c", 2, &batch)
    #expect(origins(batch) == [1, 1, 2])
    batch.complete(through: LSN(2))
    #expect(origins(batch) == [2, 1, 2])
    add("b", 3, &batch)
    batch.dropOpen()
    batch.complete(through: LSN(4))
    #expect(origins(batch) == [2, 1, 2])
    add("b", 5, &batch)
    add("d", 5, &batch)
    var other = KeyBatch()
    batch.moveOpen(to: &other)
    #expect(origins(batch) == [2, 1, 2])
    #expect(origins(other) == [5, 5])
    #expect(other.keys == ["b", "d"])
  }

  @Test("origins are packed and read back")
  func packing() {
    var packed = PackedOrigins()
    let origins = [
      KeyOrigin(transaction: 0x0102_0304, table: 0x0506, rule: 7),
      KeyOrigin(transaction: .max, table: .max, rule: .max), KeyOrigin(transaction: 0, table: 0, rule: 0),
    ]
    for origin in origins { packed.append(origin) }
    #expect(Array(packed.bytes.prefix(7)) == [1, 2, 3, 4, 5, 6, 7])
    let read = PackedOrigins(bytes: packed.bytes)
    #expect((0..<4).map { read?[$0] } == [origins[0], origins[1], origins[2], nil])
    #expect(PackedOrigins(bytes: Array(packed.bytes.dropLast())) == nil)
  }

  @Test("rows name transaction, table and template, in an order that does not depend on the file's")
  func rows() throws {
    let users = [rule("users", ["user:{id}", "all-users"]), rule("orders", ["order:{id}"])]
    for rules in [users, users.reversed().map { $0 }] {
      var stream = Stream(rules)
      try stream.describe(RowKeyTests.plainUsers)
      try stream.transaction([PgOutput.insert(10, ["42", "a", "b", "c"])])
      let names = OriginNames(tables: users)
      let told = (0..<stream.batch.count).map { names[stream.batch.origin($0)] }
      #expect(told.map { $0?.table } == ["public.users", "public.users"])
      #expect(told.map { $0?.template } == ["user:{id}", "all-users"])
      #expect(Set(origins(stream.batch)).count == 1)
      #expect(stream.batch.origin(0).transaction != 0)
    }
    #expect(OriginNames(tables: users)[.unknown] == nil)
    #expect(OriginNames(tables: users)[KeyOrigin(transaction: 1, table: 1, rule: 2)] == nil)
  }

  @Test("Keys are counted by origin, whatever comes between those of one")
  func counted() {
    var packed = PackedOrigins()
    let first = KeyOrigin(transaction: 7, table: 1, rule: 2, operation: .update)
    let second = KeyOrigin(transaction: 7, table: 1, rule: 3, operation: .update)
    let named = KeyOrigin.named(by: 7)
    for origin in [first, first, second, first, named, second] { packed.append(origin) }
    packed.committedAt = 1
    let counts = packed.counted()
    #expect(counts.map(\.origin) == [first, second, named])
    #expect(counts.map(\.keys) == [3, 2, 1])
    #expect(PackedOrigins().counted().isEmpty)
  }
}
