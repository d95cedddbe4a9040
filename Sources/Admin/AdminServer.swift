import Glibc
import Metrics
import NIOCore
import NIOHTTP1
import NIOPosix

/// Why the endpoint cannot be opened, as a sentence with what to do.
public struct AdminError: Error, CustomStringConvertible {
  public var description: String
}

/// The admin endpoint: HTTP on a Unix socket, and read-only on a TCP address if one is configured, on one thread of
/// its own. It serves nobody's data, so nothing of it is on the way of a read.
public final class AdminServer: Sendable {
  private let group: MultiThreadedEventLoopGroup
  private let channels: [any Channel]
  private let hub: TailHub
  /// Where it listens.
  public let places: AdminPlaces

  /// More connections than these are closed at once: enough for probes, scrapers, some pages and a person.
  static let mostConnections = 128

  /// - Parameters:
  ///   - socket: a Unix socket that listens already, and its path; nil: there is none. It is closed with the endpoint,
  ///     also when this throws.
  ///   - admits: whose programs may connect to the Unix socket, beside what its mode says.
  ///   - tcp: an IP address and a port, 0 for any.
  public init(
    socket: (descriptor: Int32, path: String)?, tcp: (host: String, port: Int)?, source: any AdminSource,
    admits: @escaping @Sendable (_ user: UInt32, _ group: UInt32) -> Bool = { _, _ in true }
  ) throws(AdminError) {
    let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
    let hub = TailHub(source: source, loop: group.next())
    let door = AdminDoor(source: source, hub: hub, admits: admits)
    var channels: [any Channel] = []
    do {
      if let socket {
        channels.append(
          try Self.bootstrap(group, door, isPrivate: true).withBoundSocket(socket.descriptor).wait())
      }
      var places = AdminPlaces(socket: socket?.path, tcp: nil)
      if let tcp {
        let address = try SocketAddress(ipAddress: tcp.host, port: tcp.port)
        let channel = try Self.bootstrap(group, door, isPrivate: false)
          .serverChannelOption(.socketOption(.so_reuseaddr), value: 1).bind(to: address).wait()
        channels.append(channel)
        let port = channel.localAddress?.port ?? tcp.port
        places.tcp = tcp.host.contains(":") ? "[\(tcp.host)]:\(port)" : "\(tcp.host):\(port)"
      }
      self.places = places
    } catch {
      for channel in channels { try? channel.close().wait() }
      if let socket {
        if channels.isEmpty { close(socket.descriptor) }
        unlink(socket.path)
      }
      try? group.syncShutdownGracefully()
      let place = tcp.map { "\($0.host):\($0.port)" } ?? socket?.path ?? ""
      throw AdminError(
        description:
          "Cannot listen on \(place) for the admin endpoint: \(error). Give \"admin\" another place, or "
          + "leave it out.")
    }
    door.opened(places)
    self.group = group
    self.channels = channels
    self.hub = hub
  }

  private static func bootstrap(
    _ group: MultiThreadedEventLoopGroup, _ door: AdminDoor, isPrivate: Bool
  ) -> ServerBootstrap {
    ServerBootstrap(group: group)
      .serverChannelOption(.backlog, value: 64)
      .childChannelInitializer { channel in
        guard isPrivate else { return Self.furnish(channel, door, isPrivate: false) }
        return door.admit(channel).flatMap { Self.furnish(channel, door, isPrivate: true) }
      }
      .childChannelOption(.maxMessagesPerRead, value: 4)
  }

  private static func furnish(
    _ channel: any Channel, _ door: AdminDoor, isPrivate: Bool
  ) -> EventLoopFuture<Void> {
    channel.eventLoop.makeCompletedFuture {
      guard door.enter(channel) else { throw ChannelError.eof }
      let pipeline = channel.pipeline.syncOperations
      try pipeline.addHandler(IdleStateHandler(readTimeout: .seconds(120)))
      try pipeline.configureHTTPServerPipeline(withPipeliningAssistance: true, withErrorHandling: true)
      try pipeline.addHandler(AdminHandler(door, isPrivate: isPrivate))
    }
  }

  /// Closes everything and waits for the thread. What is being answered is given up.
  public func stop() {
    hub.stop()
    for channel in channels { try? channel.close().wait() }
    if let path = places.socket { unlink(path) }
    try? group.syncShutdownGracefully()
  }
}
