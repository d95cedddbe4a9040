import Foundation
import TestSupport
import Testing

@testable import nearside

@Suite("Commands that ask a running sidecar")
struct AdminCommandTests {
  private func ask(_ sidecar: Sidecar, _ arguments: String...) throws -> Finished {
    try Sidecar.command(arguments + ["--admin", sidecar.socket + ".admin"], environment: [:])
  }

  @Test("health says ok, or why not, and exits accordingly")
  func health() throws {
    let world = try World(options: [#""staleness": { "bound": "300ms" }"#])
    let sidecar = try world.sidecar()
    // On a busy machine the evidence may once be older than that.
    let well = try eventually("it is well") {
      try ask(sidecar, "health", "--strict")
    } until: {
      $0.exit == .code(0)
    }
    #expect(well.output == "ok\n")
    try world.redis?.stop()
    try eventually("the bound has passed") { try ask(sidecar, "health", "--strict").exit == .code(1) }
    let ill = try ask(sidecar, "health", "--strict")
    #expect(!ill.output.isEmpty && ill.output != "ok\n")
    try sidecar.terminate()
    let away = try ask(sidecar, "health")
    #expect(away.exit == .code(69))
    #expect(away.errors.contains("No sidecar can be asked at"), "\(away.errors)")
  }

  @Test("invalidate clears keys, prefixes and tags, and says of what it does not understand what it takes")
  func invalidate() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let key = world.key("user:1")
    let client = try sidecar.client()
    #expect(try client.call("GET", key) == nil)
    #expect(try client.call("SET", key, "x") == .ok)
    #expect(try client.call("GET", key) == "x")
    #expect(try ask(sidecar, "invalidate", key).exit == .code(0))
    #expect(try client.call("GET", key) == nil)
    let none = try ask(sidecar, "invalidate")
    #expect(none.exit == .code(64))
    #expect(none.errors.contains("Name keys"), "\(none.errors)")
  }

  @Test("what is to be cleared is told by its form")
  func orders() {
    #expect(
      Invalidate.order(["shop:user:1", "shop:user:*", "tag:front"], all: false)
        == "key shop:user:1\nprefix shop:user:\ntag front\n")
    #expect(Invalidate.order([], all: true) == "all\n")
  }

  @Test("stats shows the templates with what was read of them, and --json what /status says")
  func stats() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let key = world.key("user:1")
    let client = try sidecar.client()
    #expect(try client.call("GET", key) == nil)
    #expect(try client.call("SET", key, "x") == .ok)
    for _ in 0..<3 { #expect(try client.call("GET", key) == "x") }
    let text = try ask(sidecar, "stats").output
    #expect(text.hasPrefix("nearside 0.1.0, process "), "\(text)")
    #expect(text.contains("\nsocket     \(sidecar.socket)\n"), "\(text)")
    let row = text.split(separator: "\n").first { $0.hasPrefix("user:{id} ") }
    #expect(row?.split(separator: " ").dropFirst().first == "4", "\(text)")
    let json = try ask(sidecar, "stats", "--json").output
    let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
    #expect(object?["role"] as? String == "tailer")
  }

  @Test("get tells of a key what is near, why it is not any more, and its value only if that is asked for")
  func get() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let key = world.key("user:1")
    let before = try ask(sidecar, "get", key)
    #expect(before.exit == .code(1))
    #expect(before.output.contains("  near        no\n"), "\(before.output)")
    #expect(before.output.contains("  template    user:{id}\n"), "\(before.output)")
    try sidecar.store(key, "a secret value")
    let near = try ask(sidecar, "get", key)
    #expect(near.exit == .code(0), "\(near.errors)")
    #expect(near.output.hasPrefix(key + "\n"))
    #expect(near.output.contains("  near        a value of 14 B ("), "\(near.output)")
    #expect(near.output.contains("  served      yes; the evidence is "), "\(near.output)")
    #expect(near.output.contains("  filled      by NEARSIDE FILL "), "\(near.output)")
    #expect(!near.output.contains("secret"))
    #expect(try !ask(sidecar, "get", key, "--json").output.contains("secret"))
    #expect(try ask(sidecar, "get", key, "--value").output == "a secret value")
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(sidecar)
    let after = try ask(sidecar, "get", key)
    #expect(after.exit == .code(1))
    #expect(
      after.output.contains("by transaction ") && after.output.contains(" on public.users (user:{id}) 0."))
    let value = try ask(sidecar, "get", key, "--value")
    #expect(value.exit == .code(1) && value.output == "" && value.errors.contains("No value of"))
    let foreign = try ask(sidecar, "get", "elsewhere:1")
    #expect(foreign.output.contains("none; nobody clears this key"), "\(foreign.output)")
  }

  @Test("a value that is no text comes out byte for byte, and a key is shown without what a terminal obeys")
  func bytes() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let key = world.key("user:2")
    let value: [UInt8] = [0, 0xff, 10, 0x1b, 65]
    let client = try sidecar.client()
    try eventually("the bytes are near") {
      _ = try client.call("GET", key)
      try client.send(
        raw: Array("*3\r\n$3\r\nSET\r\n$\(key.utf8.count)\r\n\(key)\r\n$5\r\n".utf8) + value + [13, 10])
      _ = try client.receive()
      return try ask(sidecar, "get", key, "--json").output.contains(#""near":"value""#)
    }
    #expect(try ask(sidecar, "get", key, "--value", "--json").output.contains(#""value_hex":"00ff0a1b41""#))
    #expect(Figures.safe("a\u{1B}[2Jb\u{202E}c\nd") == "a\u{FFFD}[2Jb\u{FFFD}c\u{FFFD}d")
  }

  @Test(
    "top --once shows the reads of an interval, the templates, the clients and the hottest keys, and no sequence"
  )
  func top() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let (hot, other) = (world.key("user:1"), world.key("user:2"))
    try sidecar.store(hot, "x")
    try sidecar.store(other, "y")
    let client = try sidecar.client()
    _ = try client.call("CLIENT", "SETINFO", "LIB-NAME", "libtest")
    for _ in 0..<30 { _ = try client.call(["MGET"] + Array(repeating: hot, count: 900) + [other]) }
    let done = try ask(sidecar, "top", "--once", "--interval", "0.2")
    #expect(done.exit == .code(0), "\(done.errors)")
    let lines = done.output.split(separator: "\n", omittingEmptySubsequences: false)
    #expect(lines.allSatisfy { $0.count <= 80 } && !done.output.contains("\u{1B}"), "\(done.output)")
    #expect(lines.first?.hasPrefix("nearside 0.1.0  \(world.database)  tailer, following, up ") == true)
    #expect(
      lines.contains { $0.hasPrefix("user:{id} ") && ($0.contains("100.0 %") || $0.contains("99.9 %")) },
      "\(done.output)")
    #expect(lines.contains { $0.contains("libtest × 1") }, "\(done.output)")
    let first = lines.firstIndex { $0.hasPrefix("hottest keys") }
    #expect(first.map { lines[$0 + 1].hasPrefix(hot) } == true, "\(done.output)")
    #expect(try ask(sidecar, "top", "--interval", "0").exit == .code(64))
  }

  /// Runs under script(1), which gives it a terminal; timeout(1) interrupts it.
  @Test(
    "on a terminal top draws on its other screen again and again, and gives it back when it is interrupted")
  func terminal() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let words = ["--interval", "0.2", "--admin", "'\(sidecar.socket).admin'"]
    let command = "timeout --foreground --preserve-status -s INT 5 '\(Sidecar.executable)' top "
    let done = try run(["script", "-qec", command + words.joined(separator: " "), "/dev/null"])
    #expect(done.exit == .code(130))
    #expect(done.output.hasPrefix("\u{1B}[?1049h\u{1B}[?25l"), "\(done.output.prefix(100))")
    #expect(done.output.hasSuffix("\u{1B}[?25h\u{1B}[?1049l"), "\(done.output.suffix(100))")
    #expect(done.output.components(separatedBy: "\u{1B}[H").count > 2)
    #expect(done.output.contains("nearside 0.1.0"))
  }

  @Test("whoever asks without saying which sidecar is told of the others on the host")
  func neighbours() throws {
    let folder = try TemporaryFolder()
    for name in ["nearside", "nearside-shop", "other"] {
      try FileManager.default.createDirectory(atPath: folder.file(name), withIntermediateDirectories: true)
      _ = FileManager.default.createFile(atPath: folder.file(name) + "/redis.sock.admin", contents: nil)
    }
    let found = AdminOption.sockets(in: folder.path).sorted()
    let own = folder.file("nearside") + "/redis.sock.admin"
    let other = folder.file("nearside-shop") + "/redis.sock.admin"
    #expect(found == [other, own].sorted())
    #expect(AdminOption.hint(asked: own, found: [own]) == nil)
    #expect(
      AdminOption.hint(asked: own, found: found)?.contains("There is also \(other) on this host") == true)
  }

  @Test("tail shows a change of a row with its table, its kind and its key")
  func tail() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    let tail = try ChildProcess([Sidecar.executable, "tail", "--admin", sidecar.socket + ".admin"])
    defer { _ = tail.kill() }
    var id = 1000
    // A row for each look, since nothing tells when the listener is there.
    try eventually("a change is shown") {
      id += 1
      _ = try world.psql("INSERT INTO users (id, email) VALUES (\(id), 'x\(id)@example.com')")
      return tail.output.contains("public.users insert") && tail.output.contains(world.key("user:"))
    }
  }

  @Test("an event becomes a line; what was left out is told")
  func lines() {
    let event =
      #"{"time":"2026-11-23T19:15:00.123Z","table":"public.users","op":"update","keys":["shop:user:42"],"#
      + #""key_count":3,"groups":[],"position":"0/16B3748","delay_ms":3.2}"#
    #expect(
      Tail.text("invalidation", event)
        == "19:15:00.123  public.users update  0/16B3748  3.2 ms  shop:user:42 and 2 more")
    #expect(Tail.text("dropped", #"{"count":7}"#) == "…  7 left out: this terminal is too slow")
    #expect(Tail.text("invalidation", "no JSON") == nil)
  }

  @Test("the head of an answer is found when it is whole")
  func head() {
    #expect(AdminClient.head(of: Array("HTTP/1.0 200 OK\r\nA: b\r\n".utf8)) == nil)
    let whole = AdminClient.head(of: Array("HTTP/1.0 503 Service Unavailable\r\nA: b\r\n\r\nwhy".utf8))
    #expect(whole?.status == 503 && whole?.end == 42)
  }
}
