/** What the command line needs of releases. */
import { folderBuilder } from './folder.js';
import { release as releaseWith, type ReleaseOptions, type ReleaseResult } from './release.js';

/** {@link releaseWith} with the converter as builder. */
export async function release(options: ReleaseOptions): Promise<ReleaseResult> {
  return await releaseWith(options, folderBuilder);
}

export { convertFolder, nameOfFolder, type FolderResult } from './one.js';
export { repositoryOf } from './folder.js';
export { isProven, publish, type PublishOptions } from './publish.js';
export { checkRepository, type PushPlan, type Pushed } from './push.js';
export { planRelease, type ItemEvent, type ReleaseResult, type ReleasedStatus } from './release.js';
export type { ReleasedItem } from './record.js';
export type { PlannedItem } from './plan.js';
