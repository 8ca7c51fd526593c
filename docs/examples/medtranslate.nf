// Nextflow module: convert one scan with medtranslate, as nf-core modules do.
//
//   include { MEDTRANSLATE_CONVERT } from './medtranslate.nf'
//   workflow {
//       scans = Channel.fromPath(params.scans).map { file -> [[id: file.simpleName], file] }
//       MEDTRANSLATE_CONVERT(scans, 'mri')
//   }
//
// More options: process.ext.args, such as '--no-cycle'. The exit code says why a scan failed
// (docs/reference/exit-codes.md): 11 (no device) and 18 or more may be retried, 3 to 8 never.

process MEDTRANSLATE_CONVERT {
    tag "${meta.id}"
    label 'process_medium'
    errorStrategy { task.exitStatus in [11, 130, 137, 143] ? 'retry' : 'ignore' }
    maxRetries 1

    input:
    tuple val(meta), path(scan)
    val to

    output:
    tuple val(meta), path("${prefix}_${to}.nii.gz"), emit: result
    tuple val(meta), path("${prefix}_${to}.json"), emit: report
    tuple val(meta), path("${prefix}_${to}_preview.png"), emit: preview, optional: true
    path 'versions.yml', emit: versions

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    medtranslate convert "${scan}" --to ${to} -o "${prefix}_${to}.nii.gz" \\
        --report "${prefix}_${to}.json" --quiet --threads ${task.cpus} ${args}

    printf '"%s":\\n    medtranslate: %s\\n' "${task.process}" \\
        "\$(medtranslate --version | cut -d' ' -f2)" > versions.yml
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    touch "${prefix}_${to}.nii.gz" "${prefix}_${to}.json" versions.yml
    """
}
