import Configuration
import Testing

@testable import Server

@Suite("The table of commands")
struct CommandTableTests {
  private let table = CommandTable()

  private func spec(_ name: String) -> CommandSpec? { Array(name.utf8).withUnsafeBytes { table.spec($0) } }

  /// Of Redis 7.0.15's COMMAND: name, arity, first key, last key, step.
  static let recorded = """
    get:2:1:1:1 mget:-2:1:-1:1 set:-3:1:1:1 mset:-3:1:-1:2 msetnx:-3:1:-1:2 del:-2:1:-1:1 getex:-2:1:1:1
    expire:-3:1:1:1 ttl:2:1:1:1 hset:-4:1:1:1 hgetall:2:1:1:1 lmove:5:1:2:1 bitop:-4:2:-1:1 blpop:-3:1:-2:1
    eval:-3:0:0:0 xread:-4:0:0:0 migrate:-6:3:3:1 pfdebug:3:2:2:1 georadius:-6:1:1:1 lcs:-3:1:2:1
    zrangestore:-5:1:2:1 sintercard:-3:0:0:0 object:-2:0:0:0 ping:-1:0:0:0 select:2:0:0:0 hello:-1:0:0:0
    smove:4:1:2:1 restore:-4:1:1:1 unlink:-2:1:-1:1 bzmpop:-5:0:0:0 watch:-2:1:-1:1 sort_ro:-2:1:1:1
    """.split(whereSeparator: \.isWhitespace).map { $0.split(separator: ":").map(String.init) }

  @Test("arity and places of keys are those of Redis's own table", arguments: recorded)
  func figures(_ row: [String]) throws {
    let spec = try #require(self.spec(row[0]))
    let figures = row.dropFirst().compactMap { Int($0) }
    #expect(spec.arity == figures[0])
    #expect([spec.firstKey, spec.lastKey] == [figures[1], figures[2]])
    if spec.firstKey > 0 { #expect(spec.keyStep == figures[3]) }
  }

  @Test("names count in any case, and only whole")
  func names() {
    for name in ["get", "GET", "Get", "gEt"] { #expect(spec(name)?.name == "get") }
    for name in ["", "ge", "gets", "get ", "g\u{0}t", "get\u{0}", "[et", String(repeating: "g", count: 25)] {
      #expect(spec(name) == nil, "\(name)")
    }
    #expect(spec("GEORADIUSBYMEMBER_RO")?.name == "georadiusbymember_ro")
  }

  @Test("every command is found under its own name, and has room for its keys")
  func complete() {
    #expect(table.all.count > 240)
    for row in table.all {
      #expect(spec(row.name)?.name == row.name)
      #expect(spec(row.name.uppercased())?.kind == row.kind)
      #expect(row.arity != 0 && row.keyStep > 0)
      #expect(row.firstKey >= 0 && row.firstKey <= abs(row.arity), "\(row.name)")
    }
  }

  @Test("the number of arguments is exact or at least so many")
  func arity() throws {
    let get = try #require(spec("get"))
    #expect(!get.accepts(count: 1) && get.accepts(count: 2) && !get.accepts(count: 3))
    let del = try #require(spec("del"))
    #expect(!del.accepts(count: 1) && del.accepts(count: 2) && del.accepts(count: 3000))
  }

  @Test("keys are found where they stand")
  func keys() throws {
    func places(_ name: String, _ count: Int) throws -> [Int] {
      Array(try #require(spec(name)).keyIndices(count: count))
    }
    #expect(try places("get", 2) == [1])
    #expect(try places("mget", 5) == [1, 2, 3, 4])
    #expect(try places("mset", 7) == [1, 3, 5])
    #expect(try places("blpop", 4) == [1, 2])
    #expect(try places("bitop", 5) == [2, 3, 4])
    #expect(try places("rename", 3) == [1, 2])
    #expect(try places("migrate", 6) == [3])
    #expect(try places("ping", 1) == [])
    #expect(try places("eval", 5) == [])
  }

  @Test("what Nearside does with a command follows from its kind")
  func kinds() {
    #expect(spec("get")?.kind == .near)
    #expect(spec("strlen")?.kind == .read(absent: .zero))
    #expect(spec("strlen")?.isKept == true && spec("ttl")?.isKept == false)
    #expect(spec("ttl")?.kind == .read(absent: .minusTwo))
    #expect(spec("set")?.kind == .replace)
    #expect(spec("incr")?.kind == .merge)
    #expect(spec("unlink")?.kind == .remove)
    #expect(spec("getex")?.kind == .expiry)
    #expect(spec("multi")?.kind == .transaction)
    for name in ["keys", "sort", "restore", "eval", "rename"] {
      #expect(spec(name)?.kind == .pass, "\(name)")
    }
  }

  @Test("what is refused can be allowed, but for a replica's own commands; CONFIG and CLIENT are half ours")
  func refused() {
    let refused = CommandTable().all.filter { $0.kind == .refuse }.map(\.name)
    #expect(
      Set(refused).symmetricDifference(CommandSettings.refused) == [
        "psync", "replconf", "sync", "config", "client",
      ])
  }
}
