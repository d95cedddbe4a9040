import Glibc
import TestSupport
import Testing

@Suite("The harness itself")
struct HarnessTests {
  @Test("PostgreSQL starts with logical decoding, survives a kill, and leaves nothing behind")
  func postgres() throws {
    var folder = ""
    do {
      let server = try PostgresServer()
      folder = server.folder.path
      #expect(try server.psql("SHOW wal_level") == "logical")
      let database = try server.createDatabase()
      try server.psql(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)", database: database)
      #expect(try server.psql("SELECT id, id + 1 FROM t ORDER BY id", database: database) == "1|2\n2|3")
      server.kill()
      #expect(throws: HarnessError.self) { try server.psql("SELECT 1") }
      try server.start()
      #expect(try server.psql("SELECT count(*) FROM t", database: database) == "2")
      try server.restart()
      server.set("work_mem", "'5MB'")
      try server.reload()
      #expect(try server.psql("SHOW work_mem") == "5MB")
      #expect(throws: HarnessError.self) { try server.psql("SELECT nonsense") }
    }
    #expect(access(folder, F_OK) != 0)
    #expect(!(try succeed(["ps", "ax", "-o", "args"]).contains(folder)))
  }

  @Test("Redis starts, can be stopped in its tracks, and leaves nothing behind")
  func redis() throws {
    var folder = ""
    do {
      let server = try RedisServer()
      folder = server.folder.path
      #expect(try server.cli("SET", "k", "v") == "OK")
      #expect(try server.cli("GET", "k") == "v")
      #expect(throws: HarnessError.self) { try server.cli("NONSENSE") }
      let client = try server.client()
      client.timeout = .milliseconds(100)
      server.pause()
      #expect(throws: HarnessError.self) { try client.call("GET", "k") }
      server.resume()
      client.timeout = .seconds(5)
      #expect(try client.receive() == "v")
      #expect(
        try client.pipeline([["HELLO", "3"], ["SADD", "s", "1"], ["SMEMBERS", "s"], ["GET", "none"]])
          .dropFirst()
          == [1, .set(["1"]), nil])
      #expect(try server.calls("get") == 3)
      try server.restart(hard: true)
      #expect(try server.cli("EXISTS", "k") == "0")
    }
    #expect(access(folder, F_OK) != 0)
    #expect(!(try succeed(["ps", "ax", "-o", "args"]).contains(folder)))
  }

  @Test("A child is killed when its owner goes, and waiting has a limit")
  func child() throws {
    var pid: pid_t = 0
    do {
      let child = try ChildProcess(["sleep", "1000"])
      pid = child.pid
      #expect(throws: HarnessError.self) { try child.wait(within: .milliseconds(20)) }
      #expect(child.isRunning)
    }
    #expect(kill(pid, 0) == -1)
    #expect(try run(["sh", "-c", "cat; echo e >&2; exit 3"], input: "in").exit == .code(3))
    #expect(try ChildProcess(["sleep", "1000"]).kill() == .signal(SIGKILL))
  }

  @Test("A condition that never holds says what was seen last")
  func waiting() throws {
    let error = #expect(throws: HarnessError.self) {
      try eventually("the answer", within: .milliseconds(10)) {
        41
      } until: {
        $0 == 42
      }
    }
    #expect(error?.description.contains("last seen: 41") == true)
  }
}
