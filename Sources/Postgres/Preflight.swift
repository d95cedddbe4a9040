import Configuration
import Invalidation

/// Looks whether a server is ready for a sidecar. Nothing is changed, and any role may ask.
public enum PostgresPreflight {
  /// What stands in the way, or will one day, in the order in which one would repair it. Empty: all is well.
  ///
  /// - Parameter tables: those of the configuration.
  public static func examine(
    _ settings: PostgresSettings, tables: [TableName], _ session: borrowing SQLSession
  ) throws(PostgresError) -> [Finding] {
    try survey(settings, tables: tables, session).filter { !$0.isGood }
  }

  /// The same with what is as it should be.
  public static func survey(
    _ settings: PostgresSettings, tables: [TableName], _ session: borrowing SQLSession
  ) throws(PostgresError) -> [Finding] {
    let version = judge(version: session.serverVersion)
    // The queries below speak of catalogues that older servers do not have.
    guard version.isGood else { return [version] }
    let server = try ServerFacts.read(session)
    let slot = try SlotStatus.read(settings.slot.name, session)
    return [version] + judge(server)
      + (try survey(publication: settings.publication, tables: tables, session))
      + judge(slot, settings.slot, server)
  }

  /// The part of it that DDL may change while a sidecar runs: whether the publication sends every change of the
  /// tables. Empty: all is well.
  public static func examine(
    publication name: String, tables: [TableName], _ session: borrowing SQLSession
  ) throws(PostgresError) -> [Finding] {
    try survey(publication: name, tables: tables, session).filter { !$0.isGood }
  }

  private static func survey(
    publication name: String, tables: [TableName], _ session: borrowing SQLSession
  ) throws(PostgresError) -> [Finding] {
    let publication = try PublicationFacts.read(name, session)
    var facts: [TableFacts] = []
    for table in tables { facts.append(try TableFacts.read(table, publication: name, session)) }
    return judge(publication, named: name)
      + facts.flatMap { judge($0, publication: publication == nil ? nil : name) }
  }
}
