import Configuration
import Glibc
import TLS
import TestSupport

/// A TLS connection to a port of this machine, as a descriptor.
func secure(
  _ port: UInt16, _ settings: TLSSettings, host: String = "localhost", within limit: Duration = .seconds(10)
) throws -> SecureSocket {
  guard let connection = SocketPlace.loopback(port).connect() else {
    throw HarnessError("nobody listens on port \(port)")
  }
  return try SecureSocket.open(
    over: connection, host: host, settings: settings, within: UInt64(limit.milliseconds * 1e6))
}

func client(_ port: UInt16, _ settings: TLSSettings) throws -> RESPClient {
  RESPClient(descriptor: try secure(port, settings).descriptor)
}

/// Why a connection cannot be had: at the handshake, or at the first command.
func refusal(
  _ port: UInt16, _ settings: TLSSettings, host: String = "localhost", within limit: Duration = .seconds(10)
) throws -> TLSError? {
  let socket: SecureSocket
  do { socket = try secure(port, settings, host: host, within: limit) } catch let error as TLSError {
    return error
  }
  let client = RESPClient(descriptor: socket.descriptor)
  do {
    try client.call("PING")
    return nil
  } catch { return socket.ending.error }
}
