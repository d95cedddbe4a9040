import Invalidation
import TestSupport
import Testing

@testable import Server

@Suite("Commands about the connection")
struct ConnectionCommandTests {
  private func start() throws -> (EmbeddedSidecar, RawClient) {
    let sidecar = try EmbeddedSidecar()
    var tail = Tail(sidecar)
    try tail.begin()
    return (sidecar, try RawClient(sidecar.path))
  }

  private static func hello(_ version: Int, _ id: Int) -> String {
    let body =
      #"$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:\#(version)\r\n$2\r\nid\r\n"#
      + #":\#(id)\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"#
    return (version == 3 ? #"%7\r\n"# : #"*14\r\n"#) + body
  }

  @Test("HELLO answers seven fields, in the protocol that it switches to")
  func hello() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    #expect(try client.answer("HELLO") == Self.hello(2, 1))
    #expect(try client.answer("HELLO", "3") == Self.hello(3, 1))
    #expect(try client.answer("GET", "user:1") == #"_\r\n"#)
    #expect(try client.answer("HELLO") == Self.hello(3, 1))
    #expect(
      try client.answer("hello", "2", "AUTH", "default", "secret", "SETNAME", "app") == Self.hello(2, 1))
    #expect(try client.answer("CLIENT", "GETNAME") == #"$3\r\napp\r\n"#)
    #expect(try client.answer("GET", "user:1") == #"$-1\r\n"#)
    let other = try RawClient(sidecar.path)
    #expect(try other.answer("HELLO") == Self.hello(2, 2))
  }

  @Test("a HELLO that cannot be obeyed changes nothing")
  func badHello() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    for (words, error) in [
      (["4"], "NOPROTO unsupported protocol version"), (["1"], "NOPROTO unsupported protocol version"),
      (["x"], "ERR Protocol version is not an integer or out of range"),
      (["3", "foo"], "ERR Syntax error in HELLO option 'foo'"),
      (["3", "SETNAME"], "ERR Syntax error in HELLO option 'SETNAME'"),
      (["3", "AUTH", "u"], "ERR Syntax error in HELLO option 'AUTH'"),
      (["3", "SETNAME", "a b"], "ERR Client names cannot contain spaces, newlines or special characters."),
    ] {
      #expect(try client.answer(["HELLO"] + words) == #"-\#(error)\r\n"#)
      #expect(try client.answer("GET", "user:1") == #"$-1\r\n"#)
    }
    #expect(try client.answer("CLIENT", "GETNAME") == #"$-1\r\n"#)
  }

  @Test("CLIENT answers what libraries ask at connect")
  func client() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    for (words, reply) in [
      (["ID"], ":1"), (["GETNAME"], "$-1"), (["SETNAME", "app-1"], "+OK"), (["GETNAME"], #"$5\r\napp-1"#),
      (["SETNAME", "a b"], "-ERR Client names cannot contain spaces, newlines or special characters."),
      (["SETNAME", ""], "+OK"), (["GETNAME"], "$-1"), (["SETINFO", "LIB-NAME", "lib"], "+OK"),
      (["setinfo", "lib-ver", "1.2"], "+OK"), (["SETINFO", "x", "y"], "-ERR Unrecognized option 'x'"),
      (["NO-EVICT", "on"], "+OK"), (["NO-TOUCH", "on"], "+OK"), (["CAPA", "redirect"], "+OK"),
      (["GETREDIR"], ":-1"), (["TRACKING", "off"], "+OK"),
      (["MAINT_NOTIFICATIONS", "on"], "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP."),
      (["SETNAME"], "-ERR wrong number of arguments for 'client|setname' command"),
      (["GETNAME", "x"], "-ERR wrong number of arguments for 'client|getname' command"),
      (["ID", "x"], "-ERR wrong number of arguments for 'client|id' command"),
      ([], "-ERR wrong number of arguments for 'client' command"),
    ] as [([String], String)] {
      #expect(try client.answer(["CLIENT"] + words) == reply + #"\r\n"#, "CLIENT \(words)")
    }
    let info = try client.answer("CLIENT", "INFO")
    #expect(info.contains(" name= ") && info.contains("lib-name=lib lib-ver=1.2"))
    _ = try client.answer("HELLO", "3")
    #expect(try client.answer("CLIENT", "INFO").hasPrefix("="))
    #expect(try client.answer("CLIENT", "GETNAME") == #"_\r\n"#)
  }

  @Test("the rest of a handshake is answered as a standalone Redis answers it")
  func handshake() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    for (words, reply) in [
      (["PING"], "+PONG"), (["PING", "x"], #"$1\r\nx"#),
      (["PING", "x", "y"], "-ERR wrong number of arguments for 'ping' command"),
      (["ECHO", "token"], #"$5\r\ntoken"#), (["ECHO"], "-ERR wrong number of arguments for 'echo' command"),
      (["AUTH", "secret"], "+OK"), (["AUTH", "user", "secret"], "+OK"), (["SELECT", "0"], "+OK"),
      (["SELECT", "x"], "-ERR value is not an integer or out of range"),
      (["CONFIG", "GET", "databases"], #"*2\r\n$9\r\ndatabases\r\n$2\r\n16"#),
      (["config", "get", "save"], #"*2\r\n$4\r\nsave\r\n$0\r\n"#),
      (["CONFIG", "GET", "nosuch"], "*0"),
      (
        ["CONFIG", "GET", "Timeout", "nosuch", "maxmemory-policy"],
        #"*4\r\n$7\r\nTimeout\r\n$1\r\n0\r\n$16\r\nmaxmemory-policy\r\n$11\r\nallkeys-lru"#
      ),
      (["CONFIG", "GET"], "-ERR wrong number of arguments for 'config|get' command"),
      (["CONFIG", "SET", "a", "b"], "-NOPERM this command is not available through Nearside: 'config|set'"),
      (["COMMAND"], "*0"), (["COMMAND", "COUNT"], ":0"), (["COMMAND", "DOCS"], "*0"),
      (["COMMAND", "INFO", "get"], "*0"), (["ROLE"], #"*3\r\n$6\r\nmaster\r\n:0\r\n*0"#),
      (["CLUSTER", "SLOTS"], "-ERR This instance has cluster support disabled"),
      (["READONLY"], "-ERR This instance has cluster support disabled"),
      (["SENTINEL", "MASTERS"], "-ERR unknown command 'SENTINEL', with args beginning with: 'MASTERS' "),
    ] as [([String], String)] {
      #expect(try client.answer(words) == reply + #"\r\n"#, "\(words)")
    }
    #expect(try client.answer("SELECT", "1").hasPrefix("-ERR DB index is out of range"))
    _ = try client.answer("HELLO", "3")
    #expect(try client.answer("COMMAND", "DOCS") == #"%0\r\n"#)
    #expect(try client.answer("CONFIG", "GET", "timeout") == #"%1\r\n$7\r\ntimeout\r\n$1\r\n0\r\n"#)
  }

  @Test("INFO has the lines that libraries look for")
  func info() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    let info = try client.answer("INFO")
    #expect(info.hasPrefix("$"))
    for line in [
      "redis_version:7.0.0", "redis_mode:standalone", "loading:0", "role:master", "connected_slaves:0",
      "maxmemory_policy:allkeys-lru", "cluster_enabled:0", "# Nearside", "mode:embedded",
    ] { #expect(info.contains(line + #"\r\n"#), "\(line)") }
    _ = try client.answer("HELLO", "3")
    #expect(try client.answer("INFO", "replication").hasPrefix("="))
  }

  @Test("RESET goes back to RESP2 and forgets the name")
  func reset() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    _ = try client.answer("HELLO", "3", "SETNAME", "app")
    #expect(try client.answer("RESET") == #"+RESET\r\n"#)
    #expect(try client.answer("CLIENT", "GETNAME") == #"$-1\r\n"#)
    #expect(try client.answer("HELLO") == Self.hello(2, 1))
  }

  @Test("QUIT answers what came before it and closes, and nothing behind it is carried out")
  func quit() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    let quitter = try RawClient(sidecar.path)
    #expect(try client.answer("GET", "user:1") == #"$-1\r\n"#)
    try quitter.send(
      [["GET", "user:1"], ["QUIT"], ["SET", "user:1", "v"], ["PING"]].flatMap { RESPClient.encode($0) })
    #expect(text(try quitter.readToEnd()) == #"$-1\r\n+OK\r\n"#)
    #expect(try client.answer("GET", "user:1") == #"$-1\r\n"#)
  }

  @Test("what is sent inline is answered like anything else")
  func inline() throws {
    let (sidecar, client) = try start()
    defer { sidecar.stop() }
    #expect(
      text(try client.answer(bytes(#"get user:1\r\nset user:1 "a b"\r\nget user:1\r\n"#)))
        == #"$-1\r\n+OK\r\n$3\r\na b\r\n"#)
  }

  @Test("bytes of every kind get Redis's own answer", arguments: Recorded.groups(RecordedProtocol.text)[0])
  func protocolAnswers(_ recorded: Recorded) throws {
    let (sidecar, other) = try start()
    defer { sidecar.stop() }
    let client = try RawClient(sidecar.path)
    try client.send(bytes(recorded.sent))
    client.finishSending()
    let closes = recorded.answer.hasSuffix("<EOF>")
    let expected = closes ? String(recorded.answer.dropLast(5)) : recorded.answer
    #expect(text(try client.readToEnd()) == expected)
    // And that connection alone.
    #expect(try other.answer("PING") == #"+PONG\r\n"#)
    #expect(try status(other, "protocol_errors") == (closes ? "1" : "0"))
  }
}
