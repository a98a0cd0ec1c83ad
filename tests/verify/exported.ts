/** Golden cases exported to a temporary folder. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadModel } from '../../src/convert/load.js';
import { exportOnnx, type ExportOptions } from '../../src/export/index.js';
import type { BeitModel } from '../../src/model.js';
import { GOLDEN_HINTS, goldenPath } from '../convert/goldens.js';

export class Exports {
  readonly folder = mkdtempSync(join(tmpdir(), 'convert-beit-verify-'));
  readonly #models: BeitModel[] = [];
  #count = 0;

  /** A path that does not exist yet. */
  fresh(): string {
    this.#count += 1;
    return join(this.folder, `${this.#count}.onnx`);
  }

  async load(name: string): Promise<BeitModel> {
    const model = await loadModel(goldenPath(name, 'official.safetensors'), {
      hints: GOLDEN_HINTS.get(name),
    });
    this.#models.push(model);
    return model;
  }

  async export(
    name: string,
    options: Partial<ExportOptions> = {},
  ): Promise<{ path: string; model: BeitModel }> {
    const model = await this.load(name);
    const path = this.fresh();
    await exportOnnx(model, path, { toolVersion: '0.0.0', ...options });
    return { path, model };
  }

  async close(): Promise<void> {
    await Promise.all(this.#models.map((model) => model.close()));
    rmSync(this.folder, { recursive: true });
  }
}
