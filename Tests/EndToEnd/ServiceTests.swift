import Foundation
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import Server
@testable import nearside

/// Under a service manager: what it is told, and the socket that it hands over.
@Suite struct ServiceTests {
  /// A datagram socket such as systemd gives services in NOTIFY_SOCKET.
  final class Manager {
    let descriptor: Int32
    let name: String
    private let folder: TemporaryFolder
    private(set) var messages: [String] = []

    init(isAbstract: Bool) throws {
      folder = try TemporaryFolder()
      name = isAbstract ? "@nearside-test-\(UInt64.random(in: .min ... .max))" : folder.file("notify")
      descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
      var address = sockaddr_un()
      address.sun_family = sa_family_t(AF_UNIX)
      var bytes = Array(name.utf8)
      if isAbstract { bytes[0] = 0 }
      withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
      let length = socklen_t(2 + bytes.count + (isAbstract ? 0 : 1))
      let result = withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, length) }
      }
      guard result == 0 else { throw HarnessError("bind \(name): \(String(cString: strerror(errno)))") }
    }

    deinit { close(descriptor) }

    /// Everything that was told so far.
    func read() -> [String] {
      var buffer = [UInt8](repeating: 0, count: 4096)
      while true {
        let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        guard count > 0 else { return messages }
        messages.append(String(decoding: buffer[..<count], as: UTF8.self))
      }
    }
  }

  @Test(
    "READY when the socket listens, WATCHDOG while the loop turns, STATUS for people, STOPPING at the end",
    arguments: [false, true])
  func notifications(isAbstract: Bool) throws {
    let world = try World()
    let manager = try Manager(isAbstract: isAbstract)
    let sidecar = try world.sidecar(environment: [
      "NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "200000",
    ])
    try eventually("all three were told") {
      manager.read()
    } until: { messages in
      messages.contains("READY=1") && messages.filter { $0 == "WATCHDOG=1" }.count >= 5
        && messages.contains { $0.hasPrefix("STATUS=") && $0.contains("clients") }
    }
    #expect(manager.read().filter { $0 == "READY=1" }.count == 1)
    #expect(try sidecar.terminate() == .code(0))
    #expect(manager.read().last { !$0.hasPrefix("STATUS") && !$0.hasPrefix("WATCHDOG") } == "STOPPING=1")
  }

  @Test("A reload is RELOADING with the time on the monotonic clock, and READY again")
  func reloading() throws {
    let world = try World()
    let manager = try Manager(isAbstract: false)
    let sidecar = try world.sidecar(environment: ["NOTIFY_SOCKET": manager.name])
    var before = timespec()
    clock_gettime(CLOCK_MONOTONIC, &before)
    sidecar.signal(SIGHUP)
    let told = try eventually("both were told") {
      manager.read().filter { !$0.hasPrefix("STATUS") }
    } until: {
      $0.count >= 3
    }
    #expect(told.count == 3 && told[0] == "READY=1" && told[2] == "READY=1", "\(told)")
    let lines = told[1].split(separator: "\n")
    #expect(lines.first == "RELOADING=1")
    let time = try #require(lines.last?.split(separator: "=").last.flatMap { UInt64($0) })
    #expect(time >= UInt64(before.tv_sec) * 1_000_000 + UInt64(before.tv_nsec) / 1000)
  }

  @Test("SIGHUP, such as a terminal sends that is closed, ends nothing")
  func hangUp() throws {
    let world = try World()
    let sidecar = try world.sidecar()
    sidecar.signal(SIGHUP)
    #expect(try sidecar.client().call("PING") == .simple("PONG"))
    #expect(try sidecar.terminate() == .code(0))
  }

  /// A mailbox that nobody reads stands for a loop that hangs.
  @Test("a loop that hangs sends no WATCHDOG, and one that turns again does")
  func silence() throws {
    let told = try Manager(isAbstract: false)
    let manager = try #require(
      ServiceManager(environment: ["NOTIFY_SOCKET": told.name, "WATCHDOG_USEC": "20000"]))
    let mailbox = try #require(LoopMailbox())
    let stop = StopSignal()
    withThreads(1) { _ in
      ServiceReports(manager: manager, mailbox: mailbox, stop: stop).run()
    } while: {
      // Time in which a loop that turns would have told of itself thirty times.
      sleep(.milliseconds(300))
      #expect(told.read().isEmpty)
      for message in mailbox.take() { if case .alive(let answer) = message { answer() } }
      #expect(told.read().filter { $0 == "WATCHDOG=1" }.count > 3, "\(told.messages)")
      stop.set()
    }
  }

  @Test("the watchdog of another process is none of this one's")
  func othersWatchdog() {
    let environment = ["NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "100000"]
    #expect(ServiceManager(environment: environment)?.watchdog == 100_000_000)
    let own = environment.merging(["WATCHDOG_PID": String(getpid())]) { $1 }
    #expect(ServiceManager(environment: own)?.watchdog == 100_000_000)
    let others = environment.merging(["WATCHDOG_PID": "1"]) { $1 }
    #expect(ServiceManager(environment: others)?.watchdog == nil)
  }

  /// What a client of the restarts saw.
  struct Seen: Sendable {
    var answers = 0
    var refused = 0
    /// Writes that were answered OK: the highest number of each key.
    var written = 0
    var stale = 0
  }

  @Test("a restart under load refuses no connection, loses no acknowledged write and serves no stale value")
  func restart() throws {
    let world = try World()
    let folder = try TemporaryFolder()
    let path = folder.file("handed.sock")
    let (descriptor, _) = try SocketPlace.unix(path).listen()
    defer { close(descriptor) }
    let sidecar = try world.sidecar(listener: (descriptor, path))
    let seen = Mutex([Seen](repeating: Seen(), count: 3))
    let isOver = Mutex(false)
    let database = world.database
    withThreads(3) { number in
      var mine = Seen()
      let key = "\(database):user:\(number + 1)"
      var client: RESPClient?
      var round = 0
      while !isOver.withLock({ $0 }) {
        round += 1
        do {
          if client == nil {
            guard let place = SocketPlace.unix(path).connect() else {
              mine.refused += errno == ECONNREFUSED || errno == ENOENT ? 1 : 0
              continue
            }
            close(place)
            client = try RESPClient(path, timeout: .seconds(20))
          }
          guard let client else { continue }
          // The row is the truth: after a commit and a wait for its position no older value may be shown.
          let position = try world.psql(
            "UPDATE users SET name = '\(round)' WHERE id = \(number + 1); SELECT pg_current_wal_insert_lsn()"
          )
          guard try client.call("NEARSIDE", "WAIT", position, "5000") == 1 else { continue }
          let before = try client.call("GET", key)
          if let text = before.text, text != String(round) { mine.stale += 1 }
          let stored = try client.call("SET", key, String(round))
          if stored == .ok {
            let after = try client.call("GET", key)
            if let text = after.text, text != String(round) { mine.stale += 1 }
          }
          // Not governed: every acknowledged write must be there.
          if try client.call("SET", "\(database)-plain:\(number)", String(round)) == .ok {
            mine.written = round
          }
          mine.answers += 1
        } catch {
          client = nil
        }
      }
      seen.withLock { $0[number] = mine }
    } while: {
      do {
        for _ in 0..<3 {
          let before = try sidecar.count("commands")
          try eventually("the load goes on") { try sidecar.count("commands") > before + 20 }
          let clock = ContinuousClock()
          let began = clock.now
          #expect(try sidecar.terminate() == .code(0))
          #expect(clock.now - began < .seconds(10))
          #expect(access(path, F_OK) == 0, "the socket stays")
          try sidecar.start()
          try sidecar.waitUntilFollowing()
        }
      } catch {
        Issue.record(error)
      }
      isOver.withLock { $0 = true }
    }
    for (number, mine) in seen.withLock({ $0 }).enumerated() {
      #expect(mine.refused == 0)
      #expect(mine.stale == 0)
      #expect(mine.answers > 0)
      let last = try world.redis?.cli("GET", "\(database)-plain:\(number)") ?? ""
      #expect(Int(last) ?? 0 >= mine.written)
    }
  }

  @Test("POST /invalidate clears keys also where the socket that was handed over is not the configuration's")
  func elsewhere() throws {
    let folder = try TemporaryFolder()
    let named = folder.file("named.sock")
    let world = try World(options: [#""listen": { "socket": "\#(named)" }"#])
    let path = folder.file("handed.sock")
    let (descriptor, _) = try SocketPlace.unix(path).listen()
    defer { close(descriptor) }
    let sidecar = try world.sidecar(listener: (descriptor, path))
    let key = world.key("user:1")
    try sidecar.store(key, "old")
    let answer = try HTTPClient(.unix(named + ".admin")).request("POST", "/invalidate", body: "key \(key)\n")
    #expect(answer.status == 200, "\(answer.body)")
    #expect(try sidecar.client().call("GET", key) == .null)
  }

  @Test("a descriptor that is no listening Unix socket ends the start with a sentence")
  func wrong() throws {
    let world = try World()
    let (descriptor, _) = try SocketPlace.loopback(0).listen()
    defer { close(descriptor) }
    let folder = try TemporaryFolder()
    let sidecar = try Sidecar(
      world.configuration, postgres: world.postgres.url(database: world.database), redis: world.redis?.url,
      listener: (descriptor, folder.file("x")), ready: false)
    #expect(try sidecar.wait() == .code(73))
    #expect(sidecar.log.contains("is no Unix socket that listens"))
  }
}
