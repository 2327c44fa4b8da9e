-- lossproof in Neovim. Put this file into ~/.config/nvim/plugin/; nothing else is needed.
local command = vim.g.lossproof_command or { 'lossproof', 'lsp' }
local marks = { 'pyproject.toml', 'lossproof.toml', 'setup.py', '.git' }
-- Settings as in docs/editors.md, for example { diagnostics = 'open' }.
local options = vim.g.lossproof_options or vim.empty_dict()

if vim.lsp.config then -- 0.11 and newer
  vim.lsp.config('lossproof', {
    cmd = command,
    filetypes = { 'python' },
    root_markers = marks,
    init_options = options,
  })
  vim.lsp.enable('lossproof')
else -- 0.8 to 0.10
  vim.api.nvim_create_autocmd('FileType', {
    pattern = 'python',
    callback = function(event)
      local found = vim.fs.find(marks, { upward = true, path = vim.fs.dirname(vim.api.nvim_buf_get_name(event.buf)) })
      vim.lsp.start({
        name = 'lossproof',
        cmd = command,
        root_dir = found[1] and vim.fs.dirname(found[1]) or nil,
        init_options = options,
      }, { bufnr = event.buf })
    end,
  })
end
