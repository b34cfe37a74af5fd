//! Every command that MongoDB has, and which rules it goes by.

/// The rules that a command goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Handshake: the reply goes through the route table.
    Hello,
    /// Names no collection, or nothing of a collection's documents: passes.
    Pass,
    /// Names a collection and treats its documents as wholes: passes for strings.
    Whole,
    /// Refused where its collection is sealed; passes elsewhere.
    Open(&'static str),
    /// Names `database.collection`, and bounds parts of it by keys: where the
    /// collection is sealed, by keys of open fields alone.
    Chunks(&'static str),
    /// Carries documents for any collection: refused as soon as anything is sealed.
    Never(&'static str),
    /// `insert`
    Insert,
    /// `find`
    Find,
    /// `update`
    Update,
    /// `delete`
    Delete,
    /// `findAndModify`
    FindAndModify,
    /// `count`
    Count,
    /// `distinct`
    Distinct,
    /// `aggregate`
    Aggregate,
    /// `getMore`
    GetMore,
    /// `explain`
    Explain,
    /// `create`
    Create,
    /// `collMod`
    Modify,
    /// `createIndexes`
    CreateIndexes,
    /// `listIndexes`
    ListIndexes,
    /// `dropIndexes`
    DropIndexes,
    /// `planCacheClear` and the index filters of query shapes
    PlanCache,
    /// `mapReduce`
    MapReduce,
    /// `bulkWrite`, for all collections at once (MongoDB 8)
    BulkWrite,
    /// `renameCollection`
    Rename,
    /// Not known to this version.
    Unknown,
}

const ONE_BY_ONE: &str = "use insert, update and delete on the collections themselves";
const DIRECT: &str = "it is not meant for clients";

/// The names of the commands that MongoDB has for clients, as it writes them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().chain(PASSES).copied()
}

/// Whether MongoDB has a command of this name for clients, by whichever of its names.
pub(crate) fn is_command(name: &str) -> bool {
    let by_prefix = name.starts_with('_') || name.starts_with("cluster");
    (!by_prefix && family(name) != Family::Unknown) || names().any(|known| known == name)
}

/// Those of them that [`family`] names one by one.
const FAMILIES: &[&str] = &[
    "aggregate",
    "analyzeShardKey",
    "applyOps",
    "autoSplitVector",
    "bulkWrite",
    "captrunc",
    "checkShardingIndex",
    "cleanupOrphaned",
    "cleanupStructuredEncryptionData",
    "clearJumboFlag",
    "cloneCollectionAsCapped",
    "collMod",
    "collStats",
    "compact",
    "compactStructuredEncryptionData",
    "configureQueryAnalyzer",
    "convertToCapped",
    "count",
    "create",
    "createIndexes",
    "createSearchIndexes",
    "dataSize",
    "delete",
    "deleteIndexes",
    "distinct",
    "doTxn",
    "drop",
    "dropIndexes",
    "dropSearchIndex",
    "emptycapped",
    "explain",
    "find",
    "findAndModify",
    "getMore",
    "godinsert",
    "hello",
    "insert",
    "internalRenameIfOptionsAndIndexesMatch",
    "isMaster",
    "listIndexes",
    "listSearchIndexes",
    "makeSnapshot",
    "mapReduce",
    "mergeChunks",
    "moveChunk",
    "moveRange",
    "pinHistoryReplicated",
    "planCacheClear",
    "planCacheClearFilters",
    "planCacheListFilters",
    "planCacheSetFilter",
    "reIndex",
    "refineCollectionShardKey",
    "renameCollection",
    "reshardCollection",
    "rewriteCollection",
    "search",
    "setIndexCommitQuorum",
    "shardCollection",
    "split",
    "splitChunk",
    "splitVector",
    "stageDebug",
    "testInternalTransactions",
    "testReshardCloneCollection",
    "update",
    "updateSearchIndex",
    "updateZoneKeyRange",
    "validate",
    "validateDBMetadata",
];

/// The family of the command `name`.
pub(super) fn family(name: &str) -> Family {
    match name {
        "hello" | "isMaster" | "ismaster" => Family::Hello,
        "insert" => Family::Insert,
        "find" => Family::Find,
        "update" => Family::Update,
        "delete" => Family::Delete,
        "findAndModify" | "findandmodify" => Family::FindAndModify,
        "count" => Family::Count,
        "distinct" => Family::Distinct,
        "aggregate" => Family::Aggregate,
        "getMore" => Family::GetMore,
        "explain" => Family::Explain,
        "create" => Family::Create,
        "collMod" => Family::Modify,
        "createIndexes" => Family::CreateIndexes,
        "listIndexes" => Family::ListIndexes,
        "dropIndexes" | "deleteIndexes" => Family::DropIndexes,
        "mapReduce" | "mapreduce" => Family::MapReduce,
        "bulkWrite" => Family::BulkWrite,
        "renameCollection" => Family::Rename,
        "drop"
        | "collStats"
        | "collstats"
        | "validate"
        | "compact"
        | "reIndex"
        | "planCacheListFilters"
        | "setIndexCommitQuorum"
        | "listSearchIndexes"
        | "emptycapped"
        | "captrunc"
        | "convertToCapped" => Family::Whole,
        "planCacheClear" | "planCacheClearFilters" | "planCacheSetFilter" => Family::PlanCache,
        "createSearchIndexes" | "updateSearchIndex" | "dropSearchIndex" | "search" => {
            Family::Open("search indexes cannot read what is sealed")
        }
        "cloneCollectionAsCapped" => {
            Family::Open("the copy would have another identity; copy through the proxy")
        }
        "compactStructuredEncryptionData" | "cleanupStructuredEncryptionData" => {
            Family::Open("the collection has no MongoDB queryable encryption")
        }
        "shardCollection"
        | "reshardCollection"
        | "refineCollectionShardKey"
        | "split"
        | "splitVector"
        | "splitChunk"
        | "moveChunk"
        | "moveRange"
        | "mergeChunks"
        | "checkShardingIndex"
        | "cleanupOrphaned"
        | "autoSplitVector"
        | "clearJumboFlag"
        | "analyzeShardKey"
        | "rewriteCollection"
        | "configureQueryAnalyzer"
        | "updateZoneKeyRange"
        | "dataSize"
        | "datasize" => {
            Family::Chunks("name keys of open fields alone, or run it on MongoDB itself")
        }
        // The last is one of MongoDB's own tests: it runs the commands that it is given.
        "applyOps" | "doTxn" | "testInternalTransactions" => Family::Never(ONE_BY_ONE),
        "godinsert"
        | "stageDebug"
        | "testReshardCloneCollection"
        | "internalRenameIfOptionsAndIndexesMatch"
        | "makeSnapshot"
        | "pinHistoryReplicated"
        | "validateDBMetadata" => Family::Never(DIRECT),
        name if name.starts_with('_') || name.starts_with("cluster") => Family::Never(DIRECT),
        name if PASSES.contains(&name) => Family::Pass,
        _ => Family::Unknown,
    }
}

/// Commands about sessions, users, the server and the cluster, which hold no document of a collection;
/// those that name one move or check it as a whole.
const PASSES: &[&str] = &[
    "abortMoveCollection",
    "abortReshardCollection",
    "abortRewriteCollection",
    "abortShardSplit",
    "abortTransaction",
    "abortUnshardCollection",
    "addShard",
    "addShardToZone",
    "appendOplogNote",
    "auditGetOptions",
    "authenticate",
    "autoCompact",
    "availableQueryOptions",
    "balancerCollectionStatus",
    "balancerStart",
    "balancerStatus",
    "balancerStop",
    "buildInfo",
    "buildinfo",
    "checkMetadataConsistency",
    "cleanupReshardCollection",
    "clearLog",
    "commitReshardCollection",
    "commitShardRemoval",
    "commitShardSplit",
    "commitTransaction",
    "commitTransitionToDedicatedConfigServer",
    "configureCollectionBalancing",
    "configureFailPoint",
    "connPoolStats",
    "connPoolSync",
    "connectionStatus",
    "coordinateCommitTransaction",
    "cpuload",
    "createRole",
    "createUser",
    "currentOp",
    "dbCheck",
    "dbHash",
    "dbStats",
    "dbstats",
    "donorAbortMigration",
    "donorForgetMigration",
    "donorStartMigration",
    "driverOIDTest",
    "dropAllRolesFromDatabase",
    "dropAllUsersFromDatabase",
    "dropConnections",
    "dropDatabase",
    "dropRole",
    "dropUser",
    "echo",
    "enableSharding",
    "endSessions",
    "features",
    "filemd5",
    "flushRouterConfig",
    "forgetShardSplit",
    "fsync",
    "fsyncUnlock",
    "getAuditConfig",
    "getClusterParameter",
    "getCmdLineOpts",
    "getDatabaseVersion",
    "getDefaultRWConcern",
    "getDiagnosticData",
    "getFreeMonitoringStatus",
    "getLastError",
    "getLog",
    "getParameter",
    "getShardMap",
    "getShardVersion",
    "getTransitionToDedicatedConfigServerStatus",
    "getlasterror",
    "getnonce",
    "grantPrivilegesToRole",
    "grantRolesToRole",
    "grantRolesToUser",
    "hostInfo",
    "httpClientRequest",
    "invalidateUserCache",
    "isdbgrid",
    "killAllSessions",
    "killAllSessionsByPattern",
    "killCursors",
    "killOp",
    "killSessions",
    "listCollections",
    "listCommands",
    "listDatabases",
    "listShards",
    "lockInfo",
    "logApplicationMessage",
    "logMessage",
    "logRotate",
    "logout",
    "mergeAllChunksOnShard",
    "moveCollection",
    "movePrimary",
    "netstat",
    "oidcListKeys",
    "oidcRefreshKeys",
    "ping",
    "prepareTransaction",
    "profile",
    "reapLogicalSessionCacheNow",
    "recipientForgetMigration",
    "recipientSyncData",
    "recipientVoteImportedFiles",
    "refreshLogicalSessionCacheNow",
    "refreshSessions",
    "releaseMemory",
    "removeShard",
    "removeShardFromZone",
    "repairShardedCollectionChunksHistory",
    "replSetAbortPrimaryCatchUp",
    "replSetFreeze",
    "replSetGetConfig",
    "replSetGetRBID",
    "replSetGetStatus",
    "replSetHeartbeat",
    "replSetInitiate",
    "replSetMaintenance",
    "replSetReconfig",
    "replSetRequestVotes",
    "replSetResizeOplog",
    "replSetStepDown",
    "replSetStepUp",
    "replSetSyncFrom",
    "replSetTest",
    "replSetTestEgress",
    "replSetUpdatePosition",
    "revokePrivilegesFromRole",
    "revokeRolesFromRole",
    "revokeRolesFromUser",
    "rolesInfo",
    "rotateCertificates",
    "saslContinue",
    "saslStart",
    "serverStatus",
    "setAllowMigrations",
    "setAuditConfig",
    "setClusterParameter",
    "setCommittedSnapshot",
    "setDefaultRWConcern",
    "setFeatureCompatibilityVersion",
    "setFreeMonitoring",
    "setParameter",
    "setProfilingFilterGlobally",
    "setShardVersion",
    "setUserWriteBlockMode",
    "shardDrainingStatus",
    "shardingState",
    "shutdown",
    "sleep",
    "startRecordingTraffic",
    "startSession",
    "startShardDraining",
    "startTransitionToDedicatedConfigServer",
    "stopRecordingTraffic",
    "stopShardDraining",
    "stopTransitionToDedicatedConfigServer",
    "testDeprecation",
    "testDeprecationInVersion2",
    "testRemoval",
    "testVersion2",
    "testVersions1And2",
    "top",
    "transitionFromDedicatedConfigServer",
    "transitionToDedicatedConfigServer",
    "unshardCollection",
    "updateRole",
    "updateUser",
    "usersInfo",
    "voteCommitIndexBuild",
    "waitForFailPoint",
    "waitForOngoingChunkSplits",
    "whatsmysni",
    "whatsmyuri",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// What `listCommands` of MongoDB 6.0 names, without those that begin with `_`.
    const MONGODB_6: &str = "abortShardSplit abortTransaction aggregate appendOplogNote applyOps authenticate \
        autoSplitVector availableQueryOptions buildInfo captrunc checkShardingIndex cleanupOrphaned clearLog \
        cloneCollectionAsCapped clusterAbortTransaction clusterAggregate clusterCommitTransaction clusterDelete \
        clusterFind clusterGetMore clusterInsert clusterUpdate collMod collStats commitShardSplit commitTransaction \
        compact compactStructuredEncryptionData configureFailPoint connPoolStats connPoolSync connectionStatus \
        convertToCapped coordinateCommitTransaction count cpuload create createIndexes createRole createUser currentOp \
        dataSize dbCheck dbHash dbStats delete distinct donorAbortMigration donorForgetMigration donorStartMigration \
        driverOIDTest drop dropAllRolesFromDatabase dropAllUsersFromDatabase dropConnections dropDatabase dropIndexes \
        dropRole dropUser echo emptycapped endSessions explain features filemd5 find findAndModify flushRouterConfig \
        forgetShardSplit fsync fsyncUnlock getClusterParameter getCmdLineOpts getDatabaseVersion getDefaultRWConcern \
        getDiagnosticData getFreeMonitoringStatus getLastError getLog getMore getParameter getShardMap getShardVersion \
        getnonce godinsert grantPrivilegesToRole grantRolesToRole grantRolesToUser hello hostInfo httpClientRequest \
        insert internalRenameIfOptionsAndIndexesMatch invalidateUserCache isMaster killAllSessions \
        killAllSessionsByPattern killCursors killOp killSessions listCollections listCommands listDatabases \
        listIndexes lockInfo logMessage logRotate logout makeSnapshot mapReduce mergeChunks pinHistoryReplicated ping \
        planCacheClear planCacheClearFilters planCacheListFilters planCacheSetFilter prepareTransaction profile reIndex \
        reapLogicalSessionCacheNow recipientForgetMigration recipientSyncData recipientVoteImportedFiles \
        refreshLogicalSessionCacheNow refreshSessions renameCollection replSetAbortPrimaryCatchUp replSetFreeze \
        replSetGetConfig replSetGetRBID replSetGetStatus replSetHeartbeat replSetInitiate replSetMaintenance \
        replSetReconfig replSetRequestVotes replSetResizeOplog replSetStepDown replSetStepUp replSetSyncFrom replSetTest \
        replSetTestEgress replSetUpdatePosition revokePrivilegesFromRole revokeRolesFromRole revokeRolesFromUser \
        rolesInfo rotateCertificates saslContinue saslStart serverStatus setClusterParameter setCommittedSnapshot \
        setDefaultRWConcern setFeatureCompatibilityVersion setFreeMonitoring setIndexCommitQuorum setParameter \
        setProfilingFilterGlobally setShardVersion setUserWriteBlockMode shardingState shutdown sleep splitChunk \
        splitVector stageDebug startRecordingTraffic startSession stopRecordingTraffic testDeprecation \
        testDeprecationInVersion2 testInternalTransactions testRemoval testReshardCloneCollection testVersion2 \
        testVersions1And2 top update updateRole updateUser usersInfo validate validateDBMetadata voteCommitIndexBuild \
        waitForFailPoint waitForOngoingChunkSplits whatsmysni whatsmyuri";

    #[test]
    fn every_command_of_mongodb_6_has_a_row() {
        for name in MONGODB_6.split_whitespace() {
            assert_ne!(family(name), Family::Unknown, "{name}");
        }
    }

    #[test]
    fn the_names_are_those_of_the_families() {
        for name in names() {
            assert_ne!(family(name), Family::Unknown, "{name}");
        }
        let internal = |name: &str| name.starts_with("cluster");
        for name in MONGODB_6.split_whitespace().filter(|name| !internal(name)) {
            assert!(names().any(|known| known == name), "{name}");
        }
    }

    #[test]
    fn commands_that_carry_documents_for_any_collection_never_pass() {
        for name in [
            "applyOps",
            "clusterInsert",
            "clusterUpdate",
            "clusterFind",
            "clusterAggregate",
            "godinsert",
            "testInternalTransactions",
            "_migrateClone",
        ] {
            assert!(matches!(family(name), Family::Never(_)), "{name}");
        }
        assert_eq!(family("insertt"), Family::Unknown);
    }
}
