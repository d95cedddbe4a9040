import Foundation
import TestSupport
import Testing

/// What client libraries that cannot be installed here send when they connect, as their sources say it: the files
/// of `Tests/Clients/handshakes`. Lines `>` are commands, sent in one write with those around them; lines `<` are the
/// replies, `…` at the end for whatever follows.
@Suite("Clients that are not at hand", .timeLimit(.minutes(2)))
struct HandshakeTests {
  private struct Step {
    var commands: [[String]] = []
    var replies: [String] = []
  }

  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .appending(path: "Clients/handshakes")

  static let names: [String] =
    ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()

  private func steps(_ name: String) throws -> [Step] {
    let text = try String(contentsOf: Self.folder.appending(path: name), encoding: .utf8)
    var steps = [Step()]
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      let content = String(line.dropFirst(2))
      if line.hasPrefix(">") {
        if !steps[steps.count - 1].replies.isEmpty { steps.append(Step()) }
        steps[steps.count - 1].commands.append(content.split(separator: " ").map(String.init))
      } else {
        steps[steps.count - 1].replies.append(content)
      }
    }
    return steps
  }

  @Test("Each is answered as it expects, whether its bytes come at once or one by one")
  func handshakes() throws {
    #expect(Self.names.count >= 12)
    let world = try World()
    let sidecar = try world.sidecar()
    for name in Self.names {
      for byteByByte in [false, true] {
        let client = try sidecar.client()
        for step in try steps(name) {
          #expect(step.commands.count == step.replies.count, "\(name)")
          let bytes = step.commands.flatMap(RESPClient.encode)
          if byteByByte {
            for byte in bytes { try client.send(raw: [byte]) }
          } else {
            try client.send(raw: bytes)
          }
          for (command, expected) in zip(step.commands, step.replies) {
            let reply = "\(try client.receive())"
            let fits = expected.hasSuffix("…") ? reply.hasPrefix(expected.dropLast()) : reply == expected
            #expect(fits, "\(name): \(command): \(reply) instead of \(expected)")
          }
        }
        // Nothing more than the replies has come.
        guard name != "redistack.txt" else { continue }
        try client.send("ECHO", "the end")
        #expect(try client.receive() == "the end", "\(name)")
      }
    }
  }
}
