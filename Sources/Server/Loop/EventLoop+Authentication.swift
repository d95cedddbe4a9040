import Configuration

/// The password of the socket: AUTH and HELLO … AUTH, with the texts of a Redis that has `requirepass`.
extension EventLoop {
  /// Whether the command has been answered by an error, since the client has not said the password.
  mutating func refusesLocked(_ request: Request, _ spec: CommandSpec?, _ slot: Int) -> Bool {
    switch spec?.name {
    case "auth", "hello", "quit", "reset": return false
    case nil: unknown(request, slot)
    case "exec":
      reply(slot) {
        $0.error("EXECABORT Transaction discarded because of: NOAUTH Authentication required.")
      }
    default: reply(slot) { $0.error("NOAUTH Authentication required.") }
    }
    return true
  }

  mutating func authenticate(_ request: Request, _ slot: Int) {
    guard request.count <= 3 else { return reply(slot) { $0.error("ERR syntax error") } }
    let user = request.count == 3 ? request[1] : nil
    guard admit(user: user, password: request[request.count - 1], slot) else {
      return reply(slot) { $0.error(Self.wrongPassword) }
    }
    reply(slot) { $0.status("OK") }
  }

  /// Whether the password is the right one; then the client is served. Without one, any is.
  mutating func admit(
    user: UnsafeRawBufferPointer?, password: UnsafeRawBufferPointer, _ slot: Int
  ) -> Bool {
    // The socket's file mode is the gate then, and applications keep the password of their old address.
    guard let expected = settings.listen.password else { return true }
    let isUser = user.map { $0.elementsEqual("default".utf8) } ?? true
    guard Self.isSame(password, expected.exposed), isUser else { return false }
    clients[slot].unlock()
    return true
  }

  static let wrongPassword = "WRONGPASS invalid username-password pair or user is disabled."

  static let helloFirst =
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> "
    + "option can be used to authenticate the client and select the RESP protocol version at the same time"

  /// In a time that does not tell where they differ.
  private static func isSame(_ bytes: UnsafeRawBufferPointer, _ text: String) -> Bool {
    var text = text
    return text.withUTF8 { expected in
      var difference: UInt8 = bytes.count == expected.count ? 0 : 1
      for index in bytes.indices {
        difference |= bytes[index] ^ (expected.isEmpty ? 0 : expected[index % expected.count])
      }
      return difference == 0
    }
  }
}
